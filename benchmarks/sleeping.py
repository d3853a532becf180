"""A fit whose input and whose step sleep, fed by the pipeline of a job."""

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

STEPS = 120
SETTLING = 12
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


class Idle(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A model whose step sleeps in the graph, where a device would compute, and learns nothing."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.ends: list[float] = []

    def train_step(self, data: Any) -> dict[str, Any]:  # noqa: ANN401 - Keras's own signature
        """Sleep once the batch is there."""
        loss = tf.numpy_function(self._wait, [data[0]], tf.float32)
        loss.set_shape(())
        return {"loss": loss}

    def _wait(self, batch: np.ndarray) -> np.float32:  # noqa: ARG002
        time.sleep(self._seconds)
        self.ends.append(time.perf_counter())
        return np.float32(0)


def ready() -> tf.data.Dataset:
    """Return one batch, over and over: there is nothing to wait for."""
    batch = tf.zeros((BATCH, 4)), tf.zeros((BATCH,), tf.int64)
    return tf.data.Dataset.from_tensors(batch).repeat()


def read_ahead(input_s: float) -> tf.data.Dataset:
    """Return the batches of a job's pipeline, each of which takes `input_s` seconds to make."""
    rows, order = _rows_of(input_s)
    options = PipelineOptions(batch_size=BATCH, cache=False)
    return training_dataset(rows, order, dtypes={"x": "float32"}, options=options)


def not_read_ahead(input_s: float) -> tf.data.Dataset:
    """Return the same batches, each of them made when it is asked for."""
    rows, order = _rows_of(input_s)
    assert rows.unprepared is not None
    prepare, features = rows.unprepared.tensors, tf.constant(rows.features["x"])

    def batch(numbers: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG001
        return prepare({"x": tf.gather(features, numbers[:length])})["x"], numbers[:length]

    once = tf.data.Options()
    once.experimental_optimization.inject_prefetch = False
    return order.batches().map(batch).with_options(once)


def step_s(data: tf.data.Dataset, compute_s: float, *, steps_per_execution: int) -> float:
    """Return the seconds of a step in Keras's `fit`, from the end of one sleep to the end of the next."""
    model = Idle(compute_s)
    model.compile(steps_per_execution=steps_per_execution, jit_compile=False)
    model.fit(data, steps_per_epoch=STEPS, epochs=1, shuffle=False, verbose=0)
    return statistics.mean(after - before for before, after in itertools.pairwise(model.ends[SETTLING:]))


def _rows_of(input_s: float) -> tuple[Samples, Order]:
    rows = Samples(
        {"x": np.zeros((STEPS * BATCH, 4), np.float32)},
        {"y": np.zeros(STEPS * BATCH, np.int64)},
        unprepared=Asleep(input_s),
    )
    return rows, Order(STEPS * BATCH, BATCH, seed=1, shuffle=True)
