"""Train the digits CNN for a few epochs: `python -m benchmarks.digits_model ROWS.npz MODEL.keras`."""

from __future__ import annotations

import sys

import keras
import numpy as np

from benchmarks.plain_trainer import digits_cnn


def main() -> None:
    """Train and save."""
    data, file = sys.argv[1:]
    keras.utils.set_random_seed(7)
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    model = digits_cnn()
    model.fit(x[:1400], y[:1400], epochs=8, verbose=0)
    model.save(file)


if __name__ == "__main__":
    main()
