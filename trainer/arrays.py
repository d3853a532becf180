"""A table of numpy arrays, in memory or in files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import InvalidDataError
from trainer.table import CHUNK_ROWS, STRING, Chunk, Field, chunk_rows

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ArrayFile:
    """An array that lies in a file, row after row, and is read a slice at a time.

    It isn't mapped: mapped pages would count as this process's memory for as long as they are of use.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read rows one after the other, or the rows of these numbers."""
        import numpy as np

        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self.runs([(start, max(start, stop))])
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        return self.runs([(number, number + 1) for number in numbers.tolist()])

    def runs(self, runs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Read runs of rows, each from a first to before a last, into one array."""
        import numpy as np

        values = np.empty((sum(stop - start for start, stop in runs), *self.shape[1:]), self.dtype)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        done = 0
        with self.path.open("rb", buffering=0) as file:
            for start, stop in runs:
                file.seek(self.offset + start * row)
                wanted = values[done : done + stop - start]
                if file.readinto(wanted.reshape(-1).view(np.uint8)) != wanted.nbytes:  # type: ignore[arg-type]
                    raise EOFError(f"{self.path} ends within row {stop}")
                done += stop - start
        return values


class ArrayTable:
    """Columns that are arrays, whose first axis counts the rows."""

    def __init__(self, arrays: Mapping[str, np.ndarray | ArrayFile]) -> None:
        """Check that they are numbers or texts, as many rows each.

        Raises:
            InvalidDataError: they aren't.
        """
        self._arrays = dict(arrays)
        first = next(iter(arrays))
        self.fields = {name: _field(name, array) for name, array in arrays.items()}
        self.rows = len(arrays[first])
        for name, array in arrays.items():
            if len(array) != self.rows:
                raise InvalidDataError(
                    f"array {name!r} has {len(array)} rows, {first!r} has {self.rows}",
                    location={"column": name},
                    remedy="Every array needs as many rows along its first axis.",
                )

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield slices of the arrays."""
        size = chunk_rows(self.fields, names)
        for start in range(0, self.rows, size):
            yield {name: self._slice(name, start, start + size) for name in names}

    def _slice(self, name: str, start: int, stop: int) -> np.ndarray:
        values = self._arrays[name][start:stop]
        return values.astype(str).astype(object) if self.fields[name].dtype == STRING else values


def _field(name: str, array: np.ndarray | ArrayFile) -> Field:
    if not array.shape:
        raise InvalidDataError(f"array {name!r} is a single value; the first axis must count the rows")
    if array.dtype.kind in "US":
        return Field(STRING, array.shape[1:])
    if array.dtype.kind not in "biuf":
        raise InvalidDataError(
            f"array {name!r} holds {array.dtype}, not numbers",
            location={"column": name},
            remedy="Save numbers (integers, floats or booleans) or texts.",
        )
    return Field(array.dtype.name, tuple(array.shape[1:]))


def extremes(array: np.ndarray | ArrayFile) -> tuple[float, float]:
    """Return the smallest and the largest value of all."""
    low, high = math.inf, -math.inf
    for start in range(0, len(array), CHUNK_ROWS):
        piece = array[start : start + CHUNK_ROWS]
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    return low, high
