"""Rows as a source gives them: columns by name, in the form in which a request sends them to a server.

A missing number is NaN, so a column of whole numbers with gaps is float64; a missing text or date is "".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import InvalidDataError

if TYPE_CHECKING:
    import numpy as np

CHUNK_ROWS = 65_536
CHUNK_BYTES = 64 << 20

STRING, BYTES, DATE, OTHER = "string", "bytes", "date", "other"
"""The dtypes that are no numbers; a date is written as ISO 8601 has it: 2024-02-29 or 2024-02-29T12:30:00.

`other` can be told of, and not be read: nested records, lists of texts.
"""


@dataclass(frozen=True)
class Field:
    """A column: its `dtype` is numpy's name of a number, or one of those above; `shape` is that of a row."""

    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers, of any shape."""
        return self.dtype not in {STRING, BYTES, DATE, OTHER}

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers without gaps, or truth values."""
        return self.dtype.startswith(("int", "uint", "bool"))


Chunk = dict[str, "np.ndarray[Any, Any]"]
"""Some rows by column name, each of shape (rows, *field.shape); texts and dates are objects of type str."""


class Table(Protocol):
    """The rows of one data set, in the order of its file."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """Every column, in the file's order."""

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield these columns, some ten thousand rows at a time, from the first row on.

        Every pass has the same chunks, and holds no more than a few of them.

        Raises:
            InvalidDataError: a row can't be read; `location` has its number, counted from 1.
        """


def chunk_rows(fields: Mapping[str, Field], names: Sequence[str], cell_bytes: int = 0) -> int:
    """Return how many rows a chunk of these columns should have: fewer where rows are large.

    `cell_bytes` is what a cell of bytes has about, if that is known.
    """
    row = sum(
        math.prod(fields[name].shape) * (8 if fields[name].is_number else max(4096, cell_bytes))
        for name in names
        if fields[name].shape or fields[name].dtype == BYTES
    )
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // row)) if row else CHUNK_ROWS


def check_columns(table: Table, names: Sequence[str], noun: str = "column") -> None:
    """See that the table has these columns.

    Raises:
        InvalidDataError: it lacks one.
    """
    for name in names:
        if name not in table.fields:
            raise InvalidDataError(
                f"{noun} {name!r} is not in the data; it has {', '.join(table.fields)}",
                location={"column": name},
            )
