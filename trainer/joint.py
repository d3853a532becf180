"""Several tables of the same columns, one after the other: the rows that train, and further sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import InvalidDataError
from trainer.frames import FrameTable
from trainer.table import STRING, Chunk, Field, Table, check_columns

if TYPE_CHECKING:
    import numpy as np

_REMEDY = (
    "Write a column alike in all sets: correct the texts among its numbers; or make texts of all its "
    "numbers by a letter before them (id12), or use Parquet, which keeps types."
)


class JointTable:
    """The rows of the main set, then those of each further one; `reading` names whose were read last."""

    def __init__(self, main: Table, further: Mapping[str, Table]) -> None:
        """Keep the tables, in this order."""
        self._tables: dict[str | None, Table] = {None: main}
        self._tables.update(further)
        self.rows = sum(table.rows for table in self._tables.values())
        self.fields = dict(main.fields)
        self.reading: str | None = None

    def agree(self, names: Sequence[str]) -> None:
        """See that all have these columns, and of a like kind; numbers become what holds those of all.

        Raises:
            InvalidDataError: one lacks a column, or holds something else in it.
        """
        for part, table in self._tables.items():
            self.reading = part
            check_columns(table, names)
            alike = self._with_texts(table, names)
            self._tables[part] = alike
            for name in names:
                self.fields[name] = _common(name, self.fields[name], alike.fields[name])
        self.reading = None

    def heights(self) -> list[tuple[str | None, int]]:
        """How many rows each has, the main one first, under None."""
        return [(part, table.rows) for part, table in self._tables.items()]

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield the chunks of one after the other."""
        for _, chunk in self.numbered(names):
            yield chunk

    def numbered(self, names: Sequence[str]) -> Iterator[tuple[int, Chunk]]:
        """Yield each chunk with the number of its first row in its own set, from 1."""
        for part, table in self._tables.items():
            first = 1
            self.reading = part
            for chunk in table.chunks(names):
                yield first, {name: self._cast(name, values) for name, values in chunk.items()}
                first += len(next(iter(chunk.values())))
        self.reading = None

    def _with_texts(self, table: Table, names: Sequence[str]) -> Table:
        """Return the table with texts where the main set has them, as far as its file leaves that open."""
        texts = [
            name
            for name in names
            if self.fields[name] == Field(STRING)
            and table.fields[name].is_number
            and not table.fields[name].shape
        ]
        return table.with_texts(texts) if texts and isinstance(table, FrameTable) else table

    def _cast(self, name: str, values: np.ndarray) -> np.ndarray:
        field = self.fields[name]
        return values.astype(field.dtype, copy=False) if field.is_number else values


def _common(name: str, main: Field, other: Field) -> Field:
    import numpy as np

    if main == other:
        return main
    if main.shape != other.shape or not (main.is_number and other.is_number):
        raise InvalidDataError(
            f"column {name!r} is {_told(other)}, and {_told(main)} in the training set",
            location={"column": name},
            remedy=_REMEDY,
        )
    return Field(np.promote_types(main.dtype, other.dtype).name, main.shape)


def _told(field: Field) -> str:
    return f"{field.dtype} of shape {field.shape}" if field.shape else field.dtype
