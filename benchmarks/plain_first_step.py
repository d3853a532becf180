"""The `train.py` that somebody writes without fitserve, up to its first training step.

`python -m benchmarks.plain_first_step BREAST_CANCER.csv` fits what `examples/breast_cancer.json` says and
prints the seconds since the epoch at which the first batch was done. It is the peer of a job's first step in
`benchmarks.engine`.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np

layers = keras.layers


class FirstStep(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Says when the first batch was done, and ends the process there."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Print the time, once."""
        print(time.time(), flush=True)
        os._exit(0)


def main() -> None:
    """Read, build, compile, fit."""
    keras.utils.set_random_seed(7)
    table = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1, dtype=np.float32)
    x, y = table[:, :-1], table[:, -1].astype(np.int64)
    split = int(len(x) * 0.8)
    model = keras.Sequential(
        [
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(32, activation="relu", kernel_regularizer=keras.regularizers.L2(0.0001)),
            layers.Dropout(0.2),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(
        x[:split],
        y[:split],
        validation_data=(x[split:], y[split:]),
        batch_size=32,
        epochs=5,
        callbacks=[FirstStep()],
        verbose=0,
    )


if __name__ == "__main__":
    main()
