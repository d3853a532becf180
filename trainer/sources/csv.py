"""CSV files with a header line, turned into Parquet once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trainer.errors import InvalidDataError
from trainer.frames import FrameTable, kept_once
from trainer.source import DataFile, DataOptions
from trainer.table import Table

KIND = "csv"


class Options(DataOptions):
    """A CSV file in UTF-8 whose first line names the columns."""

    kind: Literal["csv"]
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is text, and called .csv or of several comma separated fields."""
    try:
        # The head may end within a character.
        text = head[:-4].decode() if len(head) > 4000 else head.decode()
    except UnicodeDecodeError:
        return False
    return "\x00" not in text and (filename.lower().endswith(".csv") or "," in text.partition("\n")[0])


def open_table(options: Options | None, file: DataFile) -> Table:
    """Open the file's Parquet form, which is made if there is none; an empty cell is a missing value."""
    separator = options.separator if options else ","
    path = file.converted(KIND, separator, suffix=".parquet")
    table = FrameTable(kept_once(path, lambda target: _convert(file.path, target, separator)))
    if table.rows == 0:
        raise InvalidDataError("the file has a header and no rows")
    return table


def _convert(source: Path, target: Path, separator: str) -> None:
    import polars as pl

    try:
        # A type is taken from the whole column: one text cell in the last row must not fail the first pass.
        scan = pl.scan_csv(
            source, separator=separator, infer_schema_length=None, null_values=[""], glob=False
        )
        scan.sink_parquet(target, compression="lz4", maintain_order=True)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        row = _first_ragged_row(source, separator)
        if row is not None:
            raise InvalidDataError(
                f"row {row} has more cells than the header",
                location={"row": row},
                remedy="Quote cells that hold the separator.",
            ) from error
        raise InvalidDataError(f"the file is no readable CSV: {str(error).splitlines()[0]}") from error


def _first_ragged_row(path: Path, separator: str) -> int | None:
    """Return the first row (from 1) with more cells than the header."""
    import csv

    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, delimiter=separator)
            header = next(reader, [])
            return next((row for row, cells in enumerate(reader, 1) if len(cells) > len(header)), None)
    except (UnicodeDecodeError, csv.Error):
        return None
