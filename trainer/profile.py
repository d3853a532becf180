"""What is told about a data set before anything is trained on it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Profiled(BaseModel):
    """A part of what is told about a data set."""

    model_config = ConfigDict(frozen=True)


class Frequency(Profiled):
    """A text, cut at 100 characters, and how often it is there, at least."""

    value: str
    count: int


class ColumnProfile(Profiled):
    """One column: `shape` is that of one row, () for a scalar; a statistic is null where it means nothing.

    `kind` is what the column would most likely be called in a spec's `data.columns`. `distinct` is exact up
    to 16,384, within about 1 % beyond; the statistics of a column of vectors are those of all its numbers.
    `quantiles` are at 10 %, 20 %, ... 90 %, those of 50,000 rows where there are more. `top` are the most
    frequent texts; of more than 50,000 different ones, some counts may be too low.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    kind: str | None = None
    missing: int = 0
    distinct: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] | None = None
    top: tuple[Frequency, ...] | None = None


class AnomalyCode(StrEnum):
    """What may look wrong in a data set."""

    MISSING_VALUES = "missing_values"
    """Cells are empty, or NaN."""
    TEXT_AMONG_NUMBERS = "text_among_numbers"
    """Half of a column's texts or more are numbers."""
    CONSTANT_COLUMN = "constant_column"
    """Every row has the same value."""
    IMPRECISE_NUMBER = "imprecise_number"
    """Numbers lie so close together, and so far from 0, that float32 doesn't tell them apart."""
    DUPLICATED_ROWS = "duplicated_rows"
    """Rows are there several times."""
    SINGLE_ROW_CLASS = "single_row_class"
    """A class of the label has one row: it is either trained on or looked at, never both."""
    UNSEEN_CATEGORY = "unseen_category"
    """Rows held out have a category, or a class, that no training row has."""
    OVERLAP = "overlap"
    """The features of rows held out are those of training rows too."""
    LEAKED_LABEL = "leaked_label"
    """A feature says the label, which the model then needn't learn."""


class Anomaly(Profiled):
    """Something about a column, or about whole rows, that may surprise.

    `row` counts from 1; where a set of its own is validated or tested on, `part` names the one it is in.
    """

    code: AnomalyCode
    column: str | None = None
    detail: str
    row: int | None = None
    part: str | None = None

    def __str__(self) -> str:
        places = [f"{self.part} set"] if self.part is not None else []
        places += [f"column {self.column!r}"] if self.column is not None else []
        places += [f"row {self.row:,}"] if self.row is not None else []
        return f"{', '.join(places)}: {self.detail}" if places else self.detail


class DataProfile(Profiled):
    """What a data set holds, read without TensorFlow."""

    kind: str
    rows: int
    columns: tuple[ColumnProfile, ...]
    anomalies: tuple[Anomaly, ...] = ()
