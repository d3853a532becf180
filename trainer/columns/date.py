"""Dates and times in ISO 8601, taken apart."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator
from pydantic import Field as Limits

from trainer.cells import gaps, refuse
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import one_message
from trainer.moments import Moments, standardized
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import tensorflow as tf

KIND = "date"
Part = Literal["year", "month", "day", "weekday", "day_of_year", "hour", "minute", "second"]
# For Python, for polars and for TensorFlow, of which only the last takes \d for nothing but 0 to 9.
_FORM = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_WRITTEN = "a date is written as 2024-02-29 or 2024-02-29T12:30:00"
# Where in the text a part's digits begin, and how many they are.
_PLACES = {
    "year": (0, 4),
    "month": (5, 2),
    "day": (8, 2),
    "hour": (11, 2),
    "minute": (14, 2),
    "second": (17, 2),
}
_SECONDS = 17
_GAPS = 'Say "missing": "2000-01-01", or another date, in data.columns, or correct the cell.'
# The first value of a part, and after how many it begins anew.
_CYCLES: dict[str, tuple[int, int]] = {
    "month": (1, 12),
    "day": (1, 31),
    "weekday": (0, 7),
    "day_of_year": (1, 366),
    "hour": (0, 24),
    "minute": (0, 60),
    "second": (0, 60),
}


def _date(text: str) -> str:
    if not re.fullmatch(_FORM, text):
        raise ValueError(_WRITTEN)
    date.fromisoformat(text[:10])
    return text


class Options(ColumnOptions):
    """A date, or a date and a time of day, as in 2024-02-29 or 2024-02-29T12:30:00; an offset is not applied.

    The `year` is standardized. Other parts come round: as `cyclic` each is sine and cosine of its place in
    its cycle (Monday, the first weekday, next to Sunday), as `number` that place from 0 to 1. `missing` is a
    date that stands in a gap's place.
    """

    kind: Literal["date"]
    parts: Annotated[tuple[Part, ...], Limits(min_length=1)] = ("year", "month", "day", "weekday")
    encoding: Literal["cyclic", "number"] = "cyclic"
    missing: Annotated[
        Literal["error"] | Annotated[str, AfterValidator(_date)],
        one_message(f'expected "error" or a date; {_WRITTEN}'),
    ] = "error"


def wire(options: Options, name: str, field: Field) -> Field:  # noqa: ARG001 - the contract of columns
    """Send it as a text."""
    if field.shape or field.dtype not in {"string", "date"}:
        raise InvalidDataError(
            f"column {name!r} holds {field.dtype} of shape {field.shape}, not dates",
            location={"column": name},
        )
    return Field("string")


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
    """Return the texts, "" where one may be missing."""
    import polars as pl

    missing = gaps(values)
    if options.missing == "error":
        refuse(name, values, first_row, missing, "is empty", _GAPS)
    bad = ~missing & ~are_dates(pl.Series(values, dtype=pl.String)).to_numpy()
    refuse(name, values, first_row, bad, f"holds {{value}}, {_WRITTEN}")
    return values


def are_dates(texts: pl.Series) -> pl.Series:
    """Tell which texts are dates of the calendar, with a time of day or without one."""
    day = texts.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return texts.str.contains(f"^{_FORM}$") & day.is_not_null()


class Fitter:
    """The years' mean and deviation."""

    def __init__(self) -> None:
        self._moments = Moments()

    def see(self, values: np.ndarray) -> None:
        """Count the years."""
        import polars as pl

        years = pl.Series(values, dtype=pl.String).str.slice(0, 4).cast(pl.Float64, strict=False)
        self._moments.see(years.drop_nulls().to_numpy())

    def state(self) -> State:
        """Say `mean` and `deviation` of the years."""
        return self._moments.state()


def fitter(options: Options, wire: Field, name: str) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Begin to learn of a column."""
    return Fitter()


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Take the parts out of the text; what is no date comes out as NaN."""
    import tensorflow as tf

    stand_in = "" if options.missing == "error" else options.missing

    def apply(values: tf.Tensor) -> tf.Tensor:
        values = tf.where(values == "", stand_in, values) if stand_in else values
        known = tf.strings.regex_full_match(values, _FORM)
        digits = _digits(tf.where(known, values, "2000-01-01"))
        pieces = [_encoded(options, part, _number(part, digits), state) for part in options.parts]
        return tf.where(known[:, tf.newaxis], tf.concat(pieces, axis=1), tf.constant(math.nan))

    return Transform(apply)


def _digits(texts: tf.Tensor) -> Callable[[int, int], tf.Tensor]:
    """Read whole numbers out of the texts by place and length; zero where a text has no such place."""
    import tensorflow as tf

    length = tf.strings.length(texts)
    # Without the seconds, an offset may stand where they would.
    seconds = tf.strings.substr(tf.strings.join([texts, " " * 10]), 16, 1) == ":"
    long = tf.strings.join([texts, "0" * 10])

    def digits(place: int, count: int) -> tf.Tensor:
        there = seconds if place == _SECONDS else length > place
        cut = tf.where(there, tf.strings.substr(long, place, count), "0")
        return tf.strings.to_number(cut, tf.int32)

    return digits


def _number(part: str, digits: Callable[[int, int], tf.Tensor]) -> tf.Tensor:
    """Return a part of the dates, int32 (rows,); Monday is weekday 0."""
    if part in _PLACES:
        return digits(*_PLACES[part])
    year, month, day = (digits(*_PLACES[each]) for each in ("year", "month", "day"))
    since = _days(year, month, day)
    # 1970-01-01 was a Thursday.
    return (since + 3) % 7 if part == "weekday" else since - _days(year, 0 * month + 1, 0 * day + 1) + 1


def _days(year: tf.Tensor, month: tf.Tensor, day: tf.Tensor) -> tf.Tensor:
    """Count the days since 1970-01-01 in the Gregorian calendar (Hinnant, days_from_civil)."""
    import tensorflow as tf

    year = tf.where(month <= 2, year - 1, year)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _encoded(options: Options, part: str, number: tf.Tensor, state: State) -> tf.Tensor:
    """Return float32 (rows, 1), or (rows, 2) of a sine and a cosine."""
    import tensorflow as tf

    values = tf.cast(number, tf.float32)[:, tf.newaxis]
    if part == "year":
        return standardized(values, state)
    first, period = _CYCLES[part]
    place = (values - first) / period
    if options.encoding == "number":
        return place
    angle = place * (2 * math.pi)
    return tf.concat([tf.sin(angle), tf.cos(angle)], axis=1)
