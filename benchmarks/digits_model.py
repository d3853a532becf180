"""Train the digits CNN for a few epochs: `python -m benchmarks.digits_model ROWS.npz MODEL.keras`."""

from __future__ import annotations

import sys

import keras
import numpy as np


def main() -> None:
    """Train and save."""
    data, file = sys.argv[1:]
    keras.utils.set_random_seed(7)
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:1400], y[:1400], epochs=8, verbose=0)
    model.save(file)


if __name__ == "__main__":
    main()
