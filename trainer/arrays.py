"""A table of numpy arrays, in memory or in files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainer.errors import InvalidDataError
from trainer.table import CHUNK_ROWS, STRING, Chunk, Field, chunk_rows

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Head:
    """What a .npy file says of its array; `size` is its own, in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    size: int

    def array(self, content: bytes) -> np.ndarray:
        """Return the array of a file's content."""
        import numpy as np

        values = np.frombuffer(content, self.dtype, count=math.prod(self.shape), offset=self.size)
        return values.reshape(self.shape, order="F" if self.fortran else "C")


def read_head(file: IO[bytes], size: int, name: str | None = None) -> Head:
    """Read the head of a .npy file of `size` bytes, `name` in an archive.

    Raises:
        InvalidDataError: it is none, holds objects, or has not the bytes that its head promises.
    """
    import numpy as np

    which, place = ("the array", {}) if name is None else (f"array {name!r}", {"column": name})
    begin = file.tell()
    try:
        version, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, SyntaxError) as error:
        raise InvalidDataError(f"{which} can't be read: {error}", location=place) from error
    if any(size < 0 for size in shape):
        raise InvalidDataError(f"{which} has the shape {shape}: no size is negative", location=place)
    if version == 3 and dtype.names:  # as version 2, but in UTF-8 instead of Latin-1
        dtype.names = tuple(each.encode("latin-1").decode() for each in dtype.names)
    if dtype.hasobject:
        raise InvalidDataError(
            f"{which} holds Python objects (pickles), which are never loaded",
            location=place,
            remedy="Save arrays of numbers or of texts.",
        )
    head = Head(dtype, tuple(shape), fortran and len(shape) > 1, file.tell() - begin)
    promised = math.prod(shape) * dtype.itemsize
    there = max(0, size - head.size)
    if there < promised:
        raise InvalidDataError(
            f"{which} ends early: {there:,} bytes of the {promised:,} that {shape} {dtype} take",
            location={**place, "byte": begin + size},
        )
    return head


@dataclass(frozen=True)
class ArrayFile:
    """An array that lies in a file, row after row or (`fortran`) column after column, read a slice at a time.

    It isn't mapped: mapped pages would count as this process's memory for as long as they are of use.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0
    fortran: bool = False

    @classmethod
    def open(cls, path: Path, at: int = 0, size: int | None = None) -> ArrayFile:
        """Read the head of a .npy file, which begins `at` this byte and has `size` bytes, or is all the rest.

        Raises:
            InvalidDataError: as `read_head`.
        """
        with path.open("rb") as file:
            file.seek(at)
            head = read_head(file, path.stat().st_size - at if size is None else size)
        return cls(path, head.dtype, head.shape, at + head.size, head.fortran)

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
        width = math.prod(self.shape[1:])
        done = 0
        with self.path.open("rb", buffering=0) as file:
            for start, stop in runs:
                into = values[done : done + stop - start]
                if self.fortran:
                    columns = np.empty((width, stop - start), self.dtype)
                    for number in range(width):
                        self._read(file, number * len(self) + start, columns[number])
                    into[:] = columns.reshape(*self.shape[:0:-1], stop - start).T
                else:
                    self._read(file, start * width, into)
                done += stop - start
        return values

    def _read(self, file: IO[bytes], first: int, into: np.ndarray) -> None:
        import numpy as np

        file.seek(self.offset + first * self.dtype.itemsize)
        left = into.reshape(-1).view(np.uint8).data
        while left:  # a system call gives two gigabytes at most
            count = file.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise EOFError(f"{self.path} ends early")
            left = left[count:]


@dataclass(frozen=True)
class Part:
    """A column within an array: a field of a structured one, or a column of a flat one by its number."""

    array: np.ndarray | ArrayFile
    at: str | int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one value."""
        return self._inner[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the column, its rows first."""
        return (len(self), *self._inner[1])

    def __len__(self) -> int:
        return len(self.array)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Take the column out of some rows of the array."""
        return rows[self.at] if isinstance(self.at, str) else rows[:, self.at]

    @property
    def _inner(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        if isinstance(self.at, int):
            return self.array.dtype, ()
        field = self.array.dtype[self.at]
        return field.base, field.shape


class ArrayTable:
    """Columns that are arrays, whose first axis counts the rows."""

    def __init__(self, arrays: Mapping[str, np.ndarray | ArrayFile | Part]) -> None:
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
            read: dict[int, np.ndarray] = {}  # what several columns lie in is read once
            yield {name: self._slice(name, slice(start, start + size), read) for name in names}

    def _slice(self, name: str, rows: slice, read: dict[int, np.ndarray]) -> np.ndarray:
        array = self._arrays[name]
        if isinstance(array, Part):
            if id(array.array) not in read:
                read[id(array.array)] = array.array[rows]
            values = array.of(read[id(array.array)])
        else:
            values = array[rows]
        if self.fields[name].dtype == STRING:
            return _texts(values)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _texts(values: np.ndarray) -> np.ndarray:
    """Return texts as str; bytes are read as UTF-8, what is none of it is marked."""
    import numpy as np

    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return values.astype(str).astype(object)


def _field(name: str, array: np.ndarray | ArrayFile | Part) -> Field:
    if not array.shape:
        raise InvalidDataError(f"array {name!r} is a single value; the first axis must count the rows")
    if array.dtype.kind in "US":
        return Field(STRING, tuple(array.shape[1:]))
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
