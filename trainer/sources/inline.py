"""Rows within the spec itself: a few, for which no file is worth while."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.forms import Fault, Flag, Number, at_least, invalid, one_message
from trainer.frames import FrameTable
from trainer.source import ColumnName, DataFile, DataOptions, Held
from trainer.table import Table

KIND = "inline"
MOST_ROWS = 10_000

Cell = Annotated[
    Flag
    | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
    | Number
    | str
    | tuple[Number, ...]
    | None,
    one_message("expected a number, a text, true, false, null or a list of numbers"),
]
Row = dict[ColumnName, Cell]


class Options(DataOptions):
    """At most 10,000 rows, each an object from columns to values, as in JSON lines.

    A value is a number, a text, a truth value, or a list of numbers, as many in each row. A key that is
    missing, or null, is a missing value.
    """

    kind: Literal["inline"]
    rows: Annotated[tuple[Row, ...], at_least(1), Field(max_length=MOST_ROWS)]

    @field_validator("rows")
    @classmethod
    def _of_one_type_each_column(cls, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        faults = list(_changes(rows))
        if faults:
            raise invalid("rows", faults, rows)
        return rows

    @cached_property
    def _held(self) -> Held:
        content = json.dumps(self.rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        first = {name: cell for row in reversed(self.rows) for name, cell in row.items() if cell is not None}
        shapes = {
            name: (len(cell),) if isinstance(cell := first.get(name), tuple) else ()
            for row in self.rows
            for name in row
        }
        return Held(hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest(), shapes)

    @property
    def held(self) -> Held:
        """The rows' digest, that of their canonical JSON, and their shapes."""
        return self._held

    @property
    def place(self) -> str:
        """What errors call the data."""
        return "data.rows"


def detect(head: bytes, filename: str) -> bool:  # noqa: ARG001 - the contract of sources
    """Say no: it is never a file."""
    return False


def open_table(options: Options, file: DataFile | None) -> Table:  # noqa: ARG001 - the contract of sources
    """Read the rows out of the spec."""
    import polars as pl

    lines = "\n".join(map(json.dumps, options.rows)).encode()
    return FrameTable(pl.read_ndjson(io.BytesIO(lines), infer_schema_length=None).lazy())


def _changes(rows: tuple[Row, ...]) -> Iterator[Fault]:
    """Tell the first value in each column that is of another type than those before."""
    sorts: dict[str, str | None] = {}
    for number, row in enumerate(rows):
        for name, cell in row.items():
            if cell is None:
                continue
            sort, before = _sort(cell), sorts.get(name, "")
            if before == "":
                sorts[name] = sort
            elif before is not None and before != sort:
                sorts[name] = None  # told once
                yield Fault((number, name), f"is {sort}, where rows before have {before}")


def _sort(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return f"a list of {len(cell)}"
    return {bool: "a truth value", str: "a text"}.get(type(cell), "a number")
