"""CSV files with a header line: number columns, read through polars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.errors import InvalidDataError
from trainer.source import Anomaly, ColumnProfile, DataOptions, DataProfile, Samples, weights_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

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


def inspect(path: Path) -> DataProfile:
    """Describe every column; one of mostly numbers with some text in it is told as an anomaly."""
    frame = _read_file(path, ",")
    anomalies = []
    columns = []
    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_numeric() or column.is_null().all():
            columns.append(_number_profile(name, column))
        else:
            columns.append(_text_profile(name, column))
            bad = _first_text(column)
            if bad is not None and _share_of_numbers(column) >= 0.5:
                anomalies.append(
                    Anomaly(column=name, row=bad + 1, detail=f"text among numbers: {_shown(column[bad])}")
                )
        if column.null_count():
            anomalies.append(
                Anomaly(
                    column=name,
                    row=int(column.is_null().arg_max() or 0) + 1,
                    detail=f"{column.null_count()} missing",
                )
            )
    return DataProfile(kind=KIND, rows=frame.height, columns=tuple(columns), anomalies=tuple(anomalies))


def read(options: Options, path: Path) -> Samples:
    """Read inputs as float32 of shape (rows, columns), whole-number targets as int64, others as float32."""
    import numpy as np

    frame = _read_file(path, options.separator)
    inputs, targets = options.inputs, options.targets
    wanted = [
        *(column for columns in inputs.values() for column in columns),
        *targets.values(),
        *options.columns,
        *([options.sample_weight] if options.sample_weight else []),
    ]
    for name in wanted:
        if name not in frame.columns:
            raise InvalidDataError(f"column {name!r} is not in the file; it has {', '.join(frame.columns)}")
    numbers = {name: _numbers(frame[name]) for name in dict.fromkeys(wanted)}
    features = {
        name: np.stack([numbers[column].astype(np.float32, copy=False) for column in columns], axis=1)
        for name, columns in inputs.items()
    }
    weight = options.sample_weight
    return Samples(
        features,
        {name: _target(numbers[column]) for name, column in targets.items()},
        weights_of(weight, numbers[weight]) if weight else None,
    )


def _read_file(path: Path, separator: str) -> pl.DataFrame:
    import polars as pl

    try:
        # A type is taken from the whole column: one text cell in the last row must not fail the first pass.
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None, null_values=[""])
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        row = _first_ragged_row(path, separator)
        if row is not None:
            raise InvalidDataError(
                f"row {row} has more cells than the header",
                location={"row": row},
                remedy="Quote cells that hold the separator.",
            ) from error
        raise InvalidDataError(f"the file is no readable CSV: {str(error).splitlines()[0]}") from error
    if frame.height == 0:
        raise InvalidDataError("the file has a header and no rows")
    return frame


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


def _numbers(column: pl.Series) -> np.ndarray:
    """Return a column as numbers, or tell the first cell that is none."""
    import polars as pl

    if not column.dtype.is_numeric():
        bad = _first_text(column)
        if bad is not None:
            raise _bad_cell(column, bad, f"holds {_shown(column[bad])}, not a number")
        column = column.cast(pl.Float64)
    if column.null_count():
        bad = int(column.is_null().arg_max() or 0)
        raise _bad_cell(column, bad, "is empty")
    finite = column.is_finite() if column.dtype.is_float() else None
    if finite is not None and not finite.all():
        bad = int((~finite).arg_max() or 0)
        raise _bad_cell(column, bad, f"holds {column[bad]}, not a finite number")
    numbers: np.ndarray = column.to_numpy()
    return numbers


def _bad_cell(column: pl.Series, index: int, what: str) -> InvalidDataError:
    return InvalidDataError(
        f"column {column.name!r}, row {index + 1} {what}",
        location={"row": index + 1, "column": column.name},
        remedy="Correct the cell or leave the row out.",
    )


def _first_text(column: pl.Series) -> int | None:
    import polars as pl

    text = column.cast(pl.Float64, strict=False).is_null() & column.is_not_null()
    return int(text.arg_max() or 0) if text.any() else None


def _share_of_numbers(column: pl.Series) -> float:
    import polars as pl

    return float(column.cast(pl.Float64, strict=False).is_not_null().sum() / max(1, len(column)))


def _target(numbers: np.ndarray) -> np.ndarray:
    import numpy as np

    return numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float32, copy=False)


def _number_profile(name: str, column: pl.Series) -> ColumnProfile:
    present = column.drop_nulls()
    if present.dtype.is_float():
        present = present.filter(present.is_finite())
    values = present.to_numpy() if len(present) else None
    return ColumnProfile(
        name=name,
        dtype=str(column.dtype).lower(),
        missing=column.null_count(),
        distinct=present.n_unique(),
        minimum=None if values is None else float(values.min()),
        maximum=None if values is None else float(values.max()),
        mean=None if values is None else float(values.mean(dtype="float64")),
    )


def _text_profile(name: str, column: pl.Series) -> ColumnProfile:
    return ColumnProfile(
        name=name,
        dtype=str(column.dtype).lower(),
        missing=column.null_count(),
        distinct=column.n_unique() - bool(column.null_count()),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
