"""Run an artifact in its own runtime: its answers at several batch sizes, and how long they take."""

from __future__ import annotations

import importlib
import time
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.format import AnyFormat, Arrays, Loaded, Predict
    from exporter.signatures import Signature

BATCH_SIZE = 32
"""The size at which all rows are asked."""
BATCHES = {1: 32, 7: 9}
"""How many batches of smaller sizes are asked: of one row, and of an odd number."""
LATENCY_ROWS = (1, 64)
_LATENCY_RUNS = 50
_LATENCY_BUDGET_S = 1.0


@dataclass(frozen=True)
class Latency:
    """How long one call takes, in milliseconds, over `runs` calls one after the other."""

    median: float
    p99: float
    runs: int


@dataclass(frozen=True)
class Run:
    """What an artifact answered: by batch size, then by output, for the first rows or all of them."""

    answers: Mapping[int, Arrays]
    latency_ms: Mapping[int, Latency]
    load_ms: float
    runtime: str
    signature: Signature | None


def run(format_: AnyFormat, path: Path, features: Arrays, *, timed: bool = True, **which: str) -> Run:
    """Load the artifact and ask it all rows in batches, the first of them in smaller ones too.

    An artifact with a batch size of its own is asked at that size alone, in whole batches. `which` tells a
    format of several signatures which of them to load. Unless it is `timed`, no latency is measured.
    """
    # Imported before the clock starts: `load_ms` is the artifact's, not its runtime's.
    importlib.import_module(format_.RUNTIME.module)
    started = time.perf_counter()
    loaded = format_.load(path, **which)
    load_ms = (time.perf_counter() - started) * 1000
    distribution = format_.RUNTIME.distribution
    with closing(loaded):
        return Run(
            answers={
                size: _answers(loaded.predict, features, rows, size)
                for size, rows in _asked(_rows(features), loaded.batch_size).items()
            },
            latency_ms={
                size: _latency(loaded, features, size)
                for size in LATENCY_ROWS
                if timed
                if loaded.batch_size is None or size % loaded.batch_size == 0
            },
            load_ms=load_ms,
            runtime=f"{distribution} {loaded.version or version(distribution)}",
            signature=loaded.signature,
        )


def _rows(features: Arrays) -> int:
    return min(len(array) for array in features.values())


def _asked(rows: int, own_size: int | None) -> Mapping[int, int]:
    """Return how many rows are asked at each batch size."""
    if own_size is not None:
        return {own_size: rows - rows % own_size}
    few = {size: min(rows, size * batches) for size, batches in BATCHES.items()}
    return {**few, BATCH_SIZE: rows}


def _answers(predict: Predict, features: Arrays, rows: int, size: int) -> Arrays:
    batches = [
        predict({name: array[start : min(start + size, rows)] for name, array in features.items()})
        for start in range(0, rows, size)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _latency(loaded: Loaded, features: Arrays, size: int) -> Latency:
    # Rows repeat where there are fewer than asked for: the time depends on their number alone.
    batch = {name: array[np.arange(size) % len(array)] for name, array in features.items()}
    call_rows = loaded.batch_size or size
    _answers(loaded.predict, batch, size, call_rows)
    times: list[float] = []
    deadline = time.perf_counter() + _LATENCY_BUDGET_S
    while len(times) < _LATENCY_RUNS and (not times or time.perf_counter() < deadline):
        started = time.perf_counter()
        _answers(loaded.predict, batch, size, call_rows)
        times.append((time.perf_counter() - started) * 1000)
    return Latency(float(np.median(times)), float(np.percentile(times, 99)), len(times))
