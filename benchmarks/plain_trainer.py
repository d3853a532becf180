"""The training that somebody writes without fitserve: the peers of the jobs in `benchmarks.trainer`.

`python -m benchmarks.plain_trainer CASE DATA.npz EPOCHS BATCH_SIZE STEPS_PER_EXECUTION` fits once for every
line that it reads, and answers each with the seconds of its epochs as a JSON list. `mlp` and `cnn` are
tf.data pipelines over rows in memory, as fast as we could write them; `numpy` is `model.fit` on arrays, as
Keras has it by default.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf

SEED = 7
layers = keras.layers
Fit = Callable[[Mapping[str, Any]], None]


class EpochTimes(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """The seconds from one epoch's end to the next one's; the first counts from the start of `fit`."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self.times: list[float] = []
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take the time."""
        now = time.perf_counter()
        self.times.append(now - self._began)
        self._began = now


def main() -> None:
    """Read the rows once; then fit a new model whenever asked."""
    case, data = sys.argv[1:3]
    epochs, size, steps_per_execution = map(int, sys.argv[3:])
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    fit = FITS[case](x, y, size, steps_per_execution)
    print("ready", flush=True)
    for _ in sys.stdin:
        keras.utils.clear_session()  # what models before this one left
        times = EpochTimes()
        fit({"epochs": epochs, "callbacks": [times], "verbose": 0})
        print(json.dumps(times.times), flush=True)


def mlp(x: np.ndarray, y: np.ndarray, size: int, steps_per_execution: int) -> Fit:
    """Whole batches gathered by a permutation that is drawn anew for every epoch."""
    rows = shuffled(x, y, size).prefetch(tf.data.AUTOTUNE)
    return lambda how: small_mlp(steps_per_execution=steps_per_execution).fit(rows, **how)


def numpy(x: np.ndarray, y: np.ndarray, size: int, steps_per_execution: int) -> Fit:
    """Arrays and Keras's defaults."""
    return lambda how: small_mlp(steps_per_execution=steps_per_execution).fit(x, y, batch_size=size, **how)


def cnn(x: np.ndarray, y: np.ndarray, size: int, steps_per_execution: int) -> Fit:
    """What `examples/digits.json` says, seed included: augmented as it is read, validated on a tenth."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    train, valid = int(len(x) * 0.8), int(len(x) * 0.9)
    augment = layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=SEED)
    rows = shuffled(x[:train], y[:train], size)
    rows = rows.map(lambda a, b: (augment(a, training=True), b), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    held_out = tf.data.Dataset.from_tensor_slices((x[train:valid], y[train:valid]))
    held_out = held_out.batch(size).cache().prefetch(tf.data.AUTOTUNE)
    return lambda how: digits_cnn(steps_per_execution=steps_per_execution).fit(
        rows, validation_data=held_out, **how
    )


def shuffled(x: np.ndarray, y: np.ndarray, size: int) -> tf.data.Dataset:
    """Batches of rows in a new order each epoch; ten times faster than shuffling row by row."""
    held = tf.constant(x), tf.constant(y)
    whole = len(x) // size * size

    def epoch(_: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.shuffle(tf.range(len(x)), seed=SEED)
        batches = tf.data.Dataset.from_tensor_slices(tf.reshape(order[:whole], (-1, size)))
        return batches.concatenate(tf.data.Dataset.from_tensors(order[whole:])) if whole < len(x) else batches

    orders = tf.data.Dataset.range(1).flat_map(epoch)
    return orders.map(lambda order: tuple(tf.gather(each, order) for each in held), tf.data.AUTOTUNE)


def small_mlp(**compiled: Any) -> keras.Model:
    """The model that `benchmarks.trainer` asks for."""
    dense = [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")]
    model = keras.Sequential([keras.Input((20,)), *dense, layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], **compiled)
    return model


def digits_cnn(**compiled: Any) -> keras.Model:
    """The model of `examples/digits.json`."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 16),
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
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.AdamW(0.002), loss, metrics=["accuracy"], **compiled)
    return model


FITS = {"mlp": mlp, "cnn": cnn, "numpy": numpy}

if __name__ == "__main__":
    main()
