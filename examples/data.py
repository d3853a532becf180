"""Write the real data sets of the example specs: `python -m examples.data digits.npz breast_cancer.csv`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def write_digits(path: Path) -> None:
    """The 1,797 digits of scikit-learn: `x` float32 (rows, 8, 8, 1) in 0..16, `y` int64 (rows,) in 0..9."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images.astype(np.float32)[..., np.newaxis]
    np.savez_compressed(path, x=x, y=digits.target.astype(np.int64))


def write_breast_cancer(path: Path) -> None:
    """The 569 tumours of scikit-learn's breast-cancer set: 30 measures a row, and `benign` as 0 or 1."""
    from sklearn.datasets import load_breast_cancer

    tumours = load_breast_cancer()
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(name.replace(" ", "_") for name in tumours.feature_names), "benign"])
        rows.writerows(
            [*map(float, row), int(label)] for row, label in zip(tumours.data, tumours.target, strict=True)
        )


WRITERS: dict[str, Callable[[Path], None]] = {
    "digits.npz": write_digits,
    "breast_cancer.csv": write_breast_cancer,
}


def main() -> int:
    """Write the files named on the command line."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    unknown = [path.name for path in paths if path.name not in WRITERS]
    if unknown or not paths:
        sys.stderr.write(f"usage: python -m examples.data FILE..., each named one of {', '.join(WRITERS)}\n")
        return 2
    for path in paths:
        WRITERS[path.name](path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
