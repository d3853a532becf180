"""Rows as people have them: mappings of column names to values, some of which are missing."""

# ruff: noqa: ANN401 - values are of any kind, until a model says what it wants

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from fitserve.errors import InvalidInputError

Rows = Sequence[Mapping[str, Any]]

STRING = "string"
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


def are_rows(value: object) -> TypeGuard[Rows]:
    """Tell whether this is a list of mappings, one a row."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def columns_of(rows: Rows, wanted: Iterable[str]) -> dict[str, list[Any]]:
    """Turn rows into columns; what a row lacks of the wanted names, or of another row's, is None.

    Raises:
        InvalidInputError: one of them is no mapping.
    """
    _check(rows)
    names = dict.fromkeys([*wanted, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn columns into rows.

    Raises:
        InvalidInputError: they are of different lengths.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidInputError(f"every column needs as many values: {told}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def have_gaps(rows: Sequence[Any]) -> bool:
    """Tell whether a value is missing, or a row lacks what another one has."""
    if are_rows(rows) and len({frozenset(row) for row in rows if isinstance(row, Mapping)}) > 1:
        return True
    return any(_has_none(row) for row in rows)


def filled(rows: Sequence[Any], dtypes: Mapping[str, str]) -> list[Any]:
    """Put NaN or an empty text where a value is missing, by the dtypes of the inputs.

    Raises:
        InvalidInputError: an input whose dtype has no such value lacks one; which, and in which row.
    """
    if not are_rows(rows):
        if len(dtypes) != 1:
            raise InvalidInputError(f"name the values, there are several inputs: {', '.join(dtypes)}")
        ((name, dtype),) = dtypes.items()
        return [_filled(row, dtype, name, number) for number, row in enumerate(rows, start=1)]
    _check(rows)
    return [
        # A name that the model doesn't know is the server's to refuse.
        {**row, **{name: _filled(row.get(name), dtype, name, number) for name, dtype in dtypes.items()}}
        for number, row in enumerate(rows, start=1)
    ]


def missing_value(dtype: str) -> float | str | None:
    """Return what says in this dtype that there is no value: NaN, an empty text; None where nothing does."""
    if dtype == STRING:
        return ""
    return float("nan") if dtype in FLOATS else None


def lacking(dtype: str, row: int) -> str:
    """Say that a row lacks a value that must be there."""
    return f"row {row} has no value, and {dtype} can't say so"


def _check(rows: Rows) -> None:
    other = next((n for n, row in enumerate(rows, start=1) if not isinstance(row, Mapping)), None)
    if other is not None:
        raise InvalidInputError(f"row {other} is no mapping of names to values, as the first one is")


def _has_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_none(each) for each in value.values())
    return value is None or (isinstance(value, list | tuple) and any(_has_none(each) for each in value))


def _filled(value: Any, dtype: str, name: str, row: int) -> Any:
    if isinstance(value, list | tuple):
        return [_filled(each, dtype, name, row) for each in value]
    if value is not None:
        return value
    filler = missing_value(dtype)
    if filler is None:
        raise InvalidInputError(f"input {name!r}: {lacking(dtype, row)}")
    return filler
