"""Which rows make up each batch, computed from a seed: an epoch can be entered anywhere, and is the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

Batches: TypeAlias = "tuple[np.ndarray, np.ndarray, np.ndarray]"
"""Row numbers, int64 (steps, batch), of which a short batch has some at the end that don't count; how many
do, int64 (steps,); and the batches' own seeds, int32 (steps,)."""
Run: TypeAlias = tuple[int, int]
"""Rows that lie together, from a first to before a last."""


@dataclass(frozen=True)
class Buffer:
    """How rows on disk are shuffled: blocks of so many lie together, so many rows are in memory at a time."""

    rows: int
    block_rows: int

    @classmethod
    def of(cls, buffer_bytes: int, row_bytes: int, batch_size: int) -> Buffer:
        """Return a buffer of about so many bytes, in whole batches, mixed from some 64 places of the file."""
        rows = max(1, buffer_bytes // max(1, row_bytes) // batch_size) * batch_size
        return cls(rows, max(1, rows // 64))


@dataclass(frozen=True)
class Order:
    """Which rows make up each batch, from step `first_step` of epoch `first_epoch` (both from 0) without end.

    An epoch's order is computed from (seed, epoch), so it is the same wherever it is entered. Without a
    buffer it is a permutation of all rows. With one, the blocks of the file are permuted, and the rows of
    those that fill the buffer together: a disk reads on, and no more than the buffer is in memory.
    """

    rows: int
    batch_size: int
    seed: int
    shuffle: bool
    first_epoch: int = 0
    first_step: int = 0
    buffer: Buffer | None = None

    @property
    def steps(self) -> int:
        """Batches in a whole epoch; the last may be short."""
        return -(-self.rows // self.batch_size)

    @property
    def left(self) -> int:
        """Batches in what is left of the first epoch."""
        return self.steps - self.first_step

    def epoch(self, number: int) -> Batches:
        """Return an epoch's batches in order, from the step on at which it is entered."""
        import numpy as np

        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(self.rows) if self.shuffle else np.arange(self.rows)
        return self._batches(order, self._seeds(number), self._entered(number))

    def buffers(self, number: int) -> Iterator[tuple[list[tuple[int, int]], Batches]]:
        """Yield an epoch's buffers: the runs of rows to be read for each, and batches of places in it."""
        import numpy as np

        assert self.buffer is not None
        rng = np.random.default_rng([self.seed, number])
        starts = np.arange(0, self.rows, self.buffer.block_rows)
        starts = rng.permutation(starts) if self.shuffle else starts
        stops = np.minimum(starts + self.buffer.block_rows, self.rows)
        ends = np.cumsum(stops - starts)
        seeds = self._seeds(number)
        per_buffer = self.buffer.rows // self.batch_size
        first = self._entered(number)
        for step in range(first // per_buffer * per_buffer, self.steps, per_buffer):
            low = step * self.batch_size
            high = min(self.rows, low + self.buffer.rows)
            shuffled = np.random.default_rng([self.seed, number, step])
            order = shuffled.permutation(high - low) if self.shuffle else np.arange(high - low)
            batches = self._batches(order, seeds[step : step + per_buffer], max(0, first - step))
            yield _runs(starts, stops, ends, low, high), batches

    def batches(self, only: Callable[[], int] | None = None) -> tf.data.Dataset:
        """Return the batches of `epoch` one by one: int64 (batch,), int64 () and int32 ().

        Without end, or those of one epoch, which `only` names when they are asked for. Python is asked once
        an epoch: asked once a batch, it would hold up the threads that make the batches.
        """
        import tensorflow as tf

        def epochs() -> Iterator[Batches]:
            yield from map(self.epoch, self.numbers(only))

        batches = tf.data.Dataset.from_generator(epochs, output_signature=self.signature()).unbatch()
        return self.with_end(batches, only)

    def _batches(self, order: np.ndarray, seeds: np.ndarray, first: int) -> Batches:
        """Cut an order into batches; drop the first so many."""
        import numpy as np

        count = len(order)
        steps = -(-count // self.batch_size)
        rows = np.zeros(steps * self.batch_size, np.int64)
        rows[:count] = order
        lengths = np.full(steps, self.batch_size, np.int64)
        lengths[-1] = count - (steps - 1) * self.batch_size
        return rows.reshape(steps, self.batch_size)[first:], lengths[first:], seeds[:steps][first:]

    def _seeds(self, number: int) -> np.ndarray:
        import numpy as np

        return np.random.SeedSequence([self.seed, number]).generate_state(self.steps).view(np.int32)

    def _entered(self, number: int) -> int:
        return self.first_step if number == self.first_epoch else 0

    def numbers(self, only: Callable[[], int] | None) -> Iterable[int]:
        """Return the epochs to go through: all from the first on, or the one that `only` names now."""
        return itertools.count(self.first_epoch) if only is None else (only(),)

    def signature(self) -> tuple[tf.TensorSpec, ...]:
        """Describe `Batches` as tensors."""
        import tensorflow as tf

        return (
            tf.TensorSpec((None, self.batch_size), tf.int64),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.int32),
        )

    def with_end(self, batches: tf.data.Dataset, only: Callable[[], int] | None) -> tf.data.Dataset:
        """Say how many batches there are, where they end."""
        import tensorflow as tf

        return batches if only is None else batches.apply(tf.data.experimental.assert_cardinality(self.left))


def _runs(starts: np.ndarray, stops: np.ndarray, ends: np.ndarray, low: int, high: int) -> list[Run]:
    """Return the runs of rows that stand at `low` to `high` where blocks follow each other in an order."""
    import numpy as np

    found = []
    for place in range(int(np.searchsorted(ends, low, side="right")), len(ends)):
        before = int(ends[place] - (stops[place] - starts[place]))
        if before >= high:
            break
        first = int(starts[place]) + max(0, low - before)
        last = int(stops[place]) - max(0, int(ends[place]) - high)
        found.append((first, last))
    return found
