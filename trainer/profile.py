"""What is told about a data set before anything is trained on it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Profiled(BaseModel):
    """A part of what is told about a data set."""

    model_config = ConfigDict(frozen=True)


class ColumnProfile(Profiled):
    """One column: `shape` is that of one row, () for a scalar; a statistic is null where it means nothing.

    `kind` is what the column would most likely be called in a spec's `data.columns`.
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


class Anomaly(Profiled):
    """Something about a column that may surprise; `row` counts from 1."""

    column: str
    detail: str
    row: int | None = None


class DataProfile(Profiled):
    """What a data set holds, read without TensorFlow."""

    kind: str
    rows: int
    columns: tuple[ColumnProfile, ...]
    anomalies: tuple[Anomaly, ...] = ()
