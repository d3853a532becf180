"""CSV files with a header line, plain or by gzip, turned into Parquet once."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.errors import InvalidDataError
from trainer.frames import FrameTable, kept_once, named
from trainer.source import DataFile, FileOptions
from trainer.table import Table
from trainer.unpacking import plain_head, unpacked

if TYPE_CHECKING:
    import polars as pl

KIND = "csv"
_HEADER_BYTES = 1 << 20
_REMEDY_OF_QUOTES = 'Put a cell that holds a " into quotes, and write it as "" there.'


class Options(FileOptions):
    """A CSV file in UTF-8, plain or by gzip, whose first line names the columns.

    A column is of whole numbers, numbers or truth values (true, false) if all of its cells are; an empty cell
    is a missing value, an empty line is none. Dates stay texts.
    """

    reads_by: ClassVar = frozenset({"separator"})
    kind: Literal["csv"]
    separator: Annotated[str, Field(pattern=r"^[\t !#-~]$")] = ","


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is text, and called .csv or of several comma separated fields."""
    head, named = plain_head(head), filename.lower().removesuffix(".gz").endswith(".csv")
    try:
        # The head may end within a character.
        text = head[:-4].decode() if len(head) > 4000 else head.decode()
    except UnicodeDecodeError:
        return named and b"\x00" not in head
    return "\x00" not in text and (
        named or ("," in text.partition("\n")[0] and not text.startswith(("{", "[")))
    )


def open_table(options: Options | None, file: DataFile) -> Table:
    """Open the file's Parquet form, which is made if there is none."""
    separator = options.separator if options else ","

    def converted(texts: Sequence[str] = ()) -> Path:
        def convert(target: Path) -> None:
            with unpacked(file.path, file.conversions) as plain:
                _convert(plain, target, separator, texts)

        how = [KIND, 2, separator, *([texts] if texts else [])]
        return kept_once(file.converted(*how, suffix=".parquet"), convert)

    return FrameTable(converted(), as_texts=converted)


def _convert(source: Path, target: Path, separator: str, texts: Sequence[str]) -> None:
    """Read every cell as text, see what each column holds, then write it so, a few blocks in memory.

    The columns named as `texts` stay what they are.
    """
    import polars as pl

    names = _header(source, separator)
    try:
        scan = pl.scan_csv(
            source,
            separator=separator,
            new_columns=names,
            infer_schema=False,
            empty_string_is_null=False,
            glob=False,
        )
        cells = [_Cells(name) for name in names]
        blank = pl.all_horizontal(pl.all() == "")
        blanks = {"/some blank": blank.any(), "/all blank": blank.all()}
        seen = _answers(scan, [each.answers() for each in cells], blanks)
        if seen["/all blank"]:
            _refuse_malformed(source, separator)  # a lone quote in the header takes all rows in
            raise InvalidDataError("the file has a header and no rows")
        if seen[f"{names[-1]}/empty"]:
            # polars takes a row that ends early for one that ends with empty cells.
            _refuse_malformed(source, separator)
        # Few columns are texts, so it pays to look at these alone for blanks around numbers and for truths.
        stripped = [each.stripped() for each in cells if seen[f"{each.name}/number"]]
        seen |= _answers(scan, [each.answers() for each in stripped])
        bare = {each.name: each for each in stripped}
        rows = scan.filter(~blank) if seen["/some blank"] else scan
        typed = rows.select(
            each.text() if each.name in texts else bare.get(each.name, each).typed(seen) for each in cells
        )
        typed.sink_parquet(target, compression="lz4", maintain_order=True, engine="streaming")
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        _refuse_undecodable(source)
        _refuse_malformed(source, separator)
        raise InvalidDataError(f"the file is no readable CSV: {str(error).splitlines()[0]}") from error


def _answers(
    scan: pl.LazyFrame, questions: list[list[pl.Expr]], others: Mapping[str, pl.Expr] | None = None
) -> dict[str, bool]:
    """Return the answers by their names."""
    asked = [question for each in questions for question in each]
    asked += [question.alias(name) for name, question in (others or {}).items()]
    if not asked:
        return {}
    found: dict[str, bool] = scan.select(asked).collect(engine="streaming").row(0, named=True)
    return found


class _Cells:
    """The cells of one column, which are texts until it is seen what they all are."""

    def __init__(self, name: str, *, strip: bool = False) -> None:
        self.name = name
        self._strips = strip
        self._text = named(name)
        self._bare = self._text.str.strip_chars(" \t") if strip else self._text

    def stripped(self) -> _Cells:
        """Return the same without blanks around them."""
        return _Cells(self.name, strip=True)

    def answers(self) -> list[pl.Expr]:
        """Ask what the column lacks to be of a type: whether a cell is no whole number, and so on."""
        import polars as pl

        no = {
            "whole": self._bare.cast(pl.Int64, strict=False).is_null(),
            "number": self._bare.cast(pl.Float64, strict=False).is_null(),
        }
        if self._strips:
            no["truth"] = ~self._bare.str.to_lowercase().is_in(["true", "false"])
        asked = [
            ((self._bare != "") & lacks).any().alias(f"{self.name}/{what}") for what, lacks in no.items()
        ]
        return asked if self._strips else [*asked, (self._text == "").any().alias(f"{self.name}/empty")]

    def typed(self, seen: dict[str, bool]) -> pl.Expr:
        """Return the cells as what they all are."""
        import polars as pl

        bare = pl.when(self._bare != "").then(self._bare)
        if not seen[f"{self.name}/whole"]:
            return bare.cast(pl.Int64).alias(self.name)
        if not seen[f"{self.name}/number"]:
            return bare.cast(pl.Float64).alias(self.name)
        if not seen[f"{self.name}/truth"]:
            return (bare.str.to_lowercase() == "true").alias(self.name)
        return self.text()

    def text(self) -> pl.Expr:
        """Return the cells as texts."""
        import polars as pl

        return pl.when(self._text != "").then(self._text).alias(self.name)


def _header(path: Path, separator: str) -> list[str]:
    """Return the names of the columns."""
    import csv
    import io

    _refuse_undecodable(path, within=_HEADER_BYTES)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        text = file.read(_HEADER_BYTES).lstrip("\r\n")
    if "\r" in text and "\n" not in text:
        raise InvalidDataError(
            "the file's lines end with a carriage return alone",
            location={"row": 0},
            remedy=r"Save the file with lines that end with \n or \r\n.",
        )
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error as error:
        raise InvalidDataError(f"the file is no readable CSV: {error}", location={"row": 0}) from error
    if not names:
        raise InvalidDataError("the file is empty: a first line must name the columns")
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        raise InvalidDataError(
            f"several columns have the same name: {', '.join(map(repr, twice))}",
            location={"column": twice[0]},
            remedy="Give each column a name of its own.",
        )
    return names


def _refuse_malformed(path: Path, separator: str) -> None:
    """Tell the first row that holds a lone quote, or has more cells than the header, or fewer.

    A blank line is no row.
    """
    import csv
    import sys

    csv.field_size_limit(sys.maxsize)
    row, width, quotes = -1, 0, 0

    def counted(lines: Iterable[str]) -> Iterator[str]:
        nonlocal quotes
        for line in lines:
            quotes += line.count('"')
            yield line

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            cells = filter(None, csv.reader(counted(file), delimiter=separator, strict=True))
            for row, each in enumerate(cells):
                # Those around a cell and those doubled within it are even, and strict reading wants them so.
                if quotes % 2:
                    raise InvalidDataError(
                        f'{_place(row)} holds a lone "', location={"row": row}, remedy=_REMEDY_OF_QUOTES
                    )
                width = width if row else len(each)
                if len(each) != width:
                    count = "more" if len(each) > width else "fewer"
                    raise InvalidDataError(
                        f"{_place(row)} has {count} cells than the header: {len(each)}, not {width}",
                        location={"row": row},
                        remedy="Quote cells that hold the separator; leave missing ones empty.",
                    )
    except csv.Error as error:
        raise InvalidDataError(
            f"the file is no readable CSV from {_place(row + 1)} on: {error}",
            location={"row": row + 1},
            remedy=_REMEDY_OF_QUOTES,
        ) from error


def _refuse_undecodable(path: Path, within: int | None = None) -> None:
    """Tell the first byte that is no UTF-8, with the row on whose line it lies."""
    decoder, before, lines = codecs.getincrementaldecoder("utf-8")(), 0, 0
    with path.open("rb") as file:
        while (within is None or before < within) and (block := file.read(_HEADER_BYTES)):
            try:
                held = len(decoder.getstate()[0])
                decoder.decode(block)
            except UnicodeDecodeError as error:
                at = before - held + error.start
                row = lines + block.count(b"\n", 0, max(0, error.start - held))
                held_there = error.object[error.start]
                raise InvalidDataError(
                    f"{_place(row)} is not in UTF-8: byte {at:,} of the file is 0x{held_there:02x}",
                    location={"row": row, "byte": at},
                    remedy="Save the file in UTF-8.",
                ) from error
            before += len(block)
            lines += block.count(b"\n")


def _place(row: int) -> str:
    return f"row {row}" if row else "the header"
