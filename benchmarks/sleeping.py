"""A loop whose input and whose step sleep, fed by the pipeline of a job."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping

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
    ends = []
    for _ in data.take(STEPS):
        time.sleep(compute_s)
        ends.append(time.perf_counter())
    return statistics.mean(after - before for before, after in itertools.pairwise(ends[SETTLING:]))


def _unbuffered(rows: Samples, order: Order) -> tf.data.Dataset:
    assert rows.unprepared is not None
    prepare, features = rows.unprepared.tensors, tf.constant(rows.features["x"])

    def batch(numbers: tf.Tensor, length: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG001
        return prepare({"x": tf.gather(features, numbers[:length])})["x"], numbers[:length]

    once = tf.data.Options()
    once.experimental_optimization.inject_prefetch = False
    return order.batches().map(batch).with_options(once)
