"""Categories: texts or whole numbers that are looked up, then one-hot or an index for an Embedding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic import Field as Limits

from trainer.cells import gaps, refuse, shown, whole
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import Count, Fault, invalid
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KIND = "category"
MOST_CATEGORIES = 1_000_000
_GAPS = 'Say "missing": "unknown" or "most_frequent" in data.columns, or correct the cell.'
Value = Annotated[int, Limits(strict=True, ge=-(2**53), le=2**53)] | Annotated[str, Limits(strict=True)]


def _each_once(values: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Refuse a value that is there again: it would have two places."""
    first: dict[int | str, int] = {}
    faults = [
        Fault((place,), f"{shown(value)} is there already, at {first[value]}")
        for place, value in enumerate(values)
        if first.setdefault(value, place) != place
    ]
    if faults:
        raise invalid("vocabulary", faults, values)
    return values


Vocabulary = Annotated[
    tuple[Value, ...], Limits(min_length=1, max_length=MOST_CATEGORIES), AfterValidator(_each_once)
]


class Options(ColumnOptions):
    """A text or a whole number of a limited set.

    Index 0 is that of what training rows don't have; the categories follow, the most frequent first, or as
    `vocabulary` lists them. `one_hot` has a place for each index; `index` is the number itself, as an
    Embedding layer takes it. `max_tokens` bounds the indices, the one of the unknown counted.
    """

    kind: Literal["category"]
    encoding: Literal["one_hot", "index"] = "one_hot"
    max_tokens: Annotated[Count, Limits(ge=2)] | None = None
    vocabulary: Vocabulary | None = None
    missing: Literal["error", "unknown", "most_frequent"] = "error"


def wire(options: Options, name: str, field: Field) -> Field:
    """Send texts as they are, whole numbers as int64, or as float64 where one may be missing (NaN)."""
    if field.shape or (field.dtype not in {"string", "date"} and not field.is_number):
        raise InvalidDataError(
            f"column {name!r} holds {field.dtype} of shape {field.shape}, "
            "a category is a text or a whole number",
            location={"column": name},
        )
    if not field.is_number:
        return Field("string")
    return Field("int64" if options.missing == "error" else "float64")


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
    """Return texts, "" where one may be missing, or whole numbers, NaN where one may be."""
    if options.missing == "error":
        refuse(name, values, first_row, gaps(values), "is empty", _GAPS)
    if values.dtype == object:
        return values
    return whole(name, values, first_row, may_miss=options.missing != "error")


class Fitter:
    """How often each category is there."""

    def __init__(self, options: Options, name: str) -> None:
        self._options, self._name = options, name
        self._counts: Counter[Any] = Counter()

    def see(self, values: np.ndarray) -> None:
        """Count what isn't missing."""
        import polars as pl

        present = pl.Series(values[~gaps(values)], dtype=pl.String if values.dtype == object else pl.Int64)
        found = present.value_counts(name="count")
        self._counts.update(dict(zip(*(found[name].to_list() for name in found.columns), strict=True)))
        if len(self._counts) > MOST_CATEGORIES:
            raise InvalidDataError(
                f"column {self._name!r} has more than {MOST_CATEGORIES:,} categories",
                location={"column": self._name},
                remedy="A column of that many is an id or a text: leave it out, or call it text.",
            )

    def state(self) -> State:
        """Say the `vocabulary`, and what to `fill` gaps with: null for the unknown."""
        frequent = sorted(self._counts, key=lambda value: (-self._counts[value], value))
        known: Sequence[Any] = frequent if self._options.vocabulary is None else self._options.vocabulary
        if self._options.max_tokens is not None:
            known = known[: self._options.max_tokens - 1]
        fill = frequent[0] if frequent and self._options.missing == "most_frequent" else None
        return {"vocabulary": list(known), "fill": fill}


def fitter(options: Options, wire: Field, name: str) -> Fitter:
    """Begin to learn of a column."""
    given = options.vocabulary or ()
    of = str if wire.dtype == "string" else int
    odd = next((value for value in given if not isinstance(value, of)), None)
    if odd is not None:
        raise InvalidDataError(
            f"column {name!r} holds {'texts' if of is str else 'whole numbers'}, "
            f"its vocabulary lists {shown(odd)}",
            location={"column": name},
            remedy="Give the vocabulary in data.columns values of the column's own kind.",
        )
    return Fitter(options, name)


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:
    """Look the values up."""
    import tensorflow as tf

    text = wire.dtype == "string"
    vocabulary = state["vocabulary"]
    key = tf.string if text else tf.int64
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(vocabulary, key, shape=(len(vocabulary),)),
            tf.range(1, len(vocabulary) + 1, dtype=tf.int64),
        ),
        default_value=0,
        name=f"{name}_lookup" if name.isidentifier() else None,
    )
    fill = state["fill"]
    index_of_gaps = 0 if fill is None or fill not in vocabulary else vocabulary.index(fill) + 1

    def apply(values: tf.Tensor) -> tf.Tensor:
        missing = values == "" if text else tf.math.is_nan(tf.cast(values, tf.float64))
        looked_up = table.lookup(values if text else tf.cast(values, tf.int64))
        # Of a whole number there is no NaN to be cast: the cast's result where there is one doesn't count.
        indices = tf.where(missing, tf.constant(index_of_gaps, tf.int64), looked_up)
        return indices if options.encoding == "index" else tf.one_hot(indices, len(vocabulary) + 1)

    return Transform(apply, (table,))
