"""A table of numpy arrays, in memory or in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import InvalidDataError
from trainer.table import STRING, Chunk, Field, chunk_rows

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

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read rows `start` to `stop`."""
        import math

        import numpy as np

        start, stop, _ = rows.indices(len(self))
        row = math.prod(self.shape[1:])
        values = np.fromfile(
            self.path,
            self.dtype,
            count=max(0, stop - start) * row,
            offset=self.offset + start * row * self.dtype.itemsize,
        )
        return values.reshape(-1, *self.shape[1:])


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
