"""What exporting and proving costs: the digits CNN in every format, against each bare converter alone.

Both sides start processes of their own and import what they need. Ours is one process and its child, which
makes, loads and compares every artifact; theirs is one process a format, which proves nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proven_exports import NAMES
from benchmarks.report import Figure, parser, show

PROVEN = 1.5


def main() -> int:
    """Export by turns, and print the figures."""
    chosen = parser(__doc__, rounds=5).parse_args()
    with tempfile.TemporaryDirectory(prefix="fitserve-exporter-") as name:
        folder = Path(name)
        data, model = _digits(folder / "digits.npz"), folder / "model.keras"
        _run("digits_model", data, model)
        ours, theirs = [], []
        for number in range(chosen.rounds):
            here = folder / str(number)
            here.mkdir()
            ours.append(_timed("proven_exports", model, data, here / "ours"))
            bare = [_timed("bare_converter", what, model, here / "bare", _file(here, what)) for what in NAMES]
            theirs.append(sum(bare))
        told = json.loads(_run("proven_exports", model, data, folder / "told", "--timed").splitlines()[-1])
    figures = [
        Figure.of(f"{len(NAMES)} artifacts made and proven", ours, "s"),
        Figure.of(f"{len(NAMES)} bare converters, one after the other", theirs, "s"),
        Figure.of("proven / bare", [a / b for a, b in zip(ours, theirs, strict=True)], "x", PROVEN),
        *_of_artifacts(told),
    ]
    return show("Exports of the digits CNN", figures, as_json=chosen.json)


def _of_artifacts(told: dict[str, Any]) -> list[Figure]:
    """Sizes against float32 TensorFlow Lite, latencies against `model.predict`."""
    whole, keras = told["tflite"]["bytes"], told.pop("model.predict")["ms"]
    sizes = [Figure.of(f"size of {name} / tflite", [told[name]["bytes"] / whole], "x") for name in NAMES]
    times = [
        Figure.of(f"{rows} rows in {name} / model.predict", [told[name]["ms"][rows] / keras[rows]], "x")
        for name in NAMES
        for rows in ("1", "64")
    ]
    return [*sizes, Figure.of("1 row in model.predict", [keras["1"]], "ms"), *times]


def _digits(file: Path) -> Path:
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    np.savez(file, x=images.reshape(-1, 8, 8, 1).astype(np.float32), y=numbers.astype(np.int64))
    return file


def _file(folder: Path, what: str) -> Path:
    format_ = what.partition("-")[0]
    return folder / (what if format_ in ("saved_model", "tfjs") else f"{what}.{format_}")


def _timed(module: str, *arguments: str | Path) -> float:
    began = time.perf_counter()
    _run(module, *arguments)
    return time.perf_counter() - began


def _run(module: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
