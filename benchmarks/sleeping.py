"""A training whose input and whose step sleep, through the pipeline of a job."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.order import Order
from trainer.pipeline import PipelineOptions, training_dataset
from trainer.preprocessing import Preprocessing
from trainer.samples import Samples
from trainer.table import Field

STEPS = 100
SETTLING = 5
BATCH = 8


class Asleep(Preprocessing):
    """Prepares nothing, and takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__({"x": ["x"]}, {}, {"x": Field("float32", (4,))}, {})
        self._seconds = seconds

    def tensors(self, wire: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Sleep once a batch."""
        values = tf.py_function(self._wait, [wire["x"]], tf.float32)
        values.set_shape((None, 4))
        return {"x": values}

    def _wait(self, values: tf.Tensor) -> tf.Tensor:
        time.sleep(self._seconds)
        return values


class Sleeper(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A model whose step takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def train_step(self, data: Any) -> dict[str, Any]:  # noqa: ANN401 - Keras's own signature
        """Sleep, and learn nothing."""
        features = data[0]
        slept = tf.py_function(self._wait, [features], tf.float32)
        return {"loss": slept}

    def _wait(self, features: tf.Tensor) -> tf.Tensor:  # noqa: ARG002 - what the step depends on
        time.sleep(self._seconds)
        return tf.constant(0.0)


def step_s(input_s: float, compute_s: float, *, prefetch: bool) -> float:
    """Return the seconds of a step; without `prefetch` each batch is made when it is asked for."""
    rows = Samples(
        {"x": np.zeros((STEPS * BATCH, 4), np.float32)},
        {"y": np.zeros(STEPS * BATCH, np.int64)},
        unprepared=Asleep(input_s),
    )
    order = Order(STEPS * BATCH, BATCH, seed=1, shuffle=True)
    options = PipelineOptions(batch_size=BATCH, cache=False)
    if prefetch:
        data = training_dataset(rows, order, dtypes={"x": "float32"}, options=options)
    else:
        data = _unbuffered(rows, order)
    model = Sleeper(compute_s)
    model.compile()
    model.fit(data, steps_per_epoch=5, epochs=1, verbose=0)
    ends: list[float] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
            ends.append(time.perf_counter())

    model.fit(data, steps_per_epoch=STEPS, epochs=1, verbose=0, callbacks=[Clock()])
    return statistics.mean(after - before for before, after in itertools.pairwise(ends[SETTLING:]))


def _unbuffered(rows: Samples, order: Order) -> tf.data.Dataset:
    assert rows.unprepared is not None
    prepare, features = rows.unprepared.tensors, tf.constant(rows.features["x"])

    def batch(numbers: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG001
        return prepare({"x": tf.gather(features, numbers[:length])})["x"], numbers[:length]

    once = tf.data.Options()
    once.experimental_optimization.inject_prefetch = False
    return order.batches().map(batch).with_options(once)
