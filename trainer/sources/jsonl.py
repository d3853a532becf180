"""JSON lines: an object a line, plain or by gzip, turned into Parquet once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.cells import shown
from trainer.errors import InvalidDataError
from trainer.frames import FrameTable, kept_once, write_parquet
from trainer.source import DataFile, FileOptions
from trainer.table import Table
from trainer.unpacking import plain_head, unpacked

if TYPE_CHECKING:
    import polars as pl

KIND = "jsonl"
# A few blocks of whole lines are in memory at once; a longer line is no row.
BLOCK_BYTES, LONGEST_LINE = 16 << 20, 64 << 20


class Options(FileOptions):
    """JSON lines (.jsonl, .ndjson) in UTF-8, plain or by gzip: each line an object from columns to values.

    A value is a number, a text, a truth value, or a list of numbers, as many in each row. A key that is
    missing, or null, is a missing value. Texts among numbers make a column of texts.
    """

    kind: Literal["jsonl"]


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is called .jsonl or .ndjson, or begins with an object on a line of its own."""
    head = plain_head(head)
    if filename.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return b"\x00" not in head
    line, end, _ = head.lstrip().partition(b"\n")
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return not end and line.startswith((b'{"', b'{ "'))  # a line longer than the head


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Open the file's Parquet form, which is made if there is none."""

    def converted(texts: Sequence[str] = ()) -> Path:
        def convert(target: Path) -> None:
            with unpacked(file.path, file.conversions) as plain:
                _convert(plain, target, texts)

        how = [KIND, *([texts] if texts else [])]
        return kept_once(file.converted(*how, suffix=".parquet"), convert)

    return FrameTable(converted(), as_texts=converted)


def _convert(source: Path, target: Path, texts: Sequence[str]) -> None:
    """See what each column holds, then write it so, those named as `texts` as texts: two passes."""
    import polars as pl

    schema: dict[str, pl.DataType] = {}
    for first_line, block in _blocks(source):
        for name, dtype in _parsed(block, first_line).schema.items():
            both = _both(schema.get(name), dtype)
            if both is None:
                raise _first_change(name, first_line, block)
            schema[name] = both
    if not schema:
        raise InvalidDataError("the file is empty: each line is a row, a JSON object")
    schema |= dict.fromkeys(texts, pl.String())
    frames = (_parsed(block, first_line, schema) for first_line, block in _blocks(source))
    write_parquet(target, frames, schema)


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, and the number of the first of them, from 1."""
    first_line = 1
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            block += file.readline(LONGEST_LINE)
            if len(block) >= LONGEST_LINE and not block.endswith(b"\n"):
                row = first_line + block.count(b"\n")
                raise InvalidDataError(
                    f"line {row} is longer than {LONGEST_LINE:,} bytes: no row of JSON lines",
                    location={"row": row},
                )
            if block.strip():
                yield first_line, block
            first_line += block.count(b"\n")


def _parsed(block: bytes, first_line: int, schema: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_ndjson(io.BytesIO(block), schema=schema, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise _first_bad(block, first_line, error) from error


def _both(known: pl.DataType | None, found: pl.DataType) -> pl.DataType | None:
    """Return what holds the values of both, or None: numbers and texts become texts, as in a CSV file."""
    import polars as pl

    found = pl.Float64() if found == pl.Int128 else found
    both: pl.DataType | None = None
    if known is None or known in {found, pl.Null}:
        both = found
    elif found == pl.Null:
        both = known
    elif known.is_numeric() and found.is_numeric():
        both = pl.Float64()
    elif isinstance(known, pl.List) and isinstance(found, pl.List):
        inner = _both(known.inner, found.inner)
        both = pl.List(inner) if inner is not None else None
    elif isinstance(known, pl.Struct) and isinstance(found, pl.Struct):
        fields = dict(known)
        merged = fields | {name: _both(fields.get(name), dtype) for name, dtype in found}
        both = pl.Struct(merged) if None not in merged.values() else None
    elif all(dtype.is_numeric() or dtype == pl.String for dtype in (known, found)):
        both = pl.String()
    return both


def _first_bad(block: bytes, first_line: int, error: Exception) -> InvalidDataError:
    """Tell the first line that is no object, or whose value is of another type than those before."""
    seen: dict[str, str] = {}
    for row, line in enumerate(block.split(b"\n"), first_line):
        if not line.strip():
            continue
        try:
            cells = json.loads(line.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as wrong:
            return InvalidDataError(f"line {row} is no JSON: {wrong}", location={"row": row})
        if not isinstance(cells, dict):
            return InvalidDataError(
                f"line {row} is no JSON object but {shown(cells)}",
                location={"row": row},
                remedy='Write each row as {"column": value, ...}.',
            )
        for name, value in cells.items():
            sort = _sort(value)
            before = seen.setdefault(name, sort) if sort else None
            if before and {before, sort} - {"a number", "a text"} and before != sort:
                return _changed(name, row, f"{shown(value)} is {sort}, not {before} as before")
    return InvalidDataError(f"lines from {first_line} on are no JSON lines: {str(error).splitlines()[0]}")


def _first_change(name: str, first_line: int, block: bytes) -> InvalidDataError:
    """Tell where a column goes on otherwise than in the blocks before: at its first value in this one."""
    for row, line in enumerate(block.split(b"\n"), first_line):
        value = json.loads(line).get(name) if line.strip() else None
        if value is not None:
            return _changed(name, row, f"{shown(value)} is {_sort(value)}, which no row before has")
    raise AssertionError(name)  # else it would have no type in this block


def _changed(name: str, row: int, what: str) -> InvalidDataError:
    return InvalidDataError(
        f"column {name!r}, row {row}: {what}",
        location={"row": row, "column": name},
        remedy="Write values of one type in each column.",
    )


def _sort(value: object) -> str | None:
    sorts = {bool: "a truth value", str: "a text", list: "a list", dict: "an object"}
    return None if value is None else sorts.get(type(value), "a number")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON; write null for a missing one")
