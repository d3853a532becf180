"""Cells of a table as numbers, with the first that is none told by its row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.errors import InvalidDataError
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_LARGE = "Write such numbers as texts, with a letter in front, or leave the row out."


def numbers(
    name: str,
    values: np.ndarray,
    first_row: int,
    *,
    may_miss: bool = False,
    remedy: str | None = None,
    remedy_of_text: str | None = None,
) -> np.ndarray:
    """Return finite float32 numbers, NaN where a number may be missing; whole ones and truths too.

    Raises:
        InvalidDataError: a cell holds text or no finite number of float32, or nothing where it must not.
    """
    import numpy as np

    if values.dtype == object:
        values = _parsed(name, values, first_row, remedy_of_text)
    if values.dtype.kind != "f":
        return values.astype(np.float32, copy=False)
    refuse(name, values, first_row, np.isinf(values), "holds {value}, not a finite number")
    if not may_miss:
        refuse(name, values, first_row, np.isnan(values), "is empty or NaN", remedy)
    with np.errstate(over="ignore"):
        narrow: np.ndarray = values.astype(np.float32, copy=False)
    refuse(name, values, first_row, np.isinf(narrow), f"holds {{value}}, beyond float32 ({FLOAT32_MAX:.2g})")
    return narrow


def whole(name: str, values: np.ndarray, first_row: int, *, may_miss: bool = False) -> np.ndarray:
    """Return whole numbers as int64; where one may be missing as float64, NaN for what is.

    Raises:
        InvalidDataError: a cell holds a fraction, or a number so large that it would become another one.
    """
    import numpy as np

    floats = values.dtype.kind == "f"
    if floats:
        values = values.astype(np.float64, copy=False)
        broken = np.isinf(values) | (~np.isnan(values) & (values != np.floor(values)))
        refuse(name, values, first_row, broken, "holds {value}, a category is a whole number")
    if floats or may_miss:
        # From there on several whole numbers are the same float64.
        large = (values >= 2**53) | (values <= -(2**53))
        refuse(name, values, first_row, large, "holds {value}, beyond 2**53", _LARGE)
    else:
        refuse(
            name, values, first_row, values > np.iinfo(np.int64).max, "holds {value}, beyond int64", _LARGE
        )
    return values.astype(np.float64 if may_miss else np.int64, copy=False)


def gaps(values: np.ndarray) -> np.ndarray:
    """Tell which cells are missing, bool of the values' shape: NaN among numbers, empty texts and bytes."""
    import numpy as np

    if values.dtype == object:
        return ~values.astype(bool)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def refuse(
    name: str, values: np.ndarray, first_row: int, bad: np.ndarray, what: str, remedy: str | None = None
) -> None:
    """Raise InvalidDataError at the first bad cell, if there is one; `what` may quote its `{value}`."""
    if bad.any():
        place = int(bad.reshape(-1).argmax())
        (held,) = values.reshape(-1)[place : place + 1].tolist()
        row = first_row + place // math.prod(values.shape[1:])
        raise bad_cell(name, row, what.replace("{value}", shown(held)), remedy)


def refuse_without_values(name: str, field: Field) -> None:
    """Raise InvalidDataError if a column has rows, but nothing in them."""
    if 0 in field.shape:
        raise InvalidDataError(
            f"column {name!r} has rows of shape {field.shape}: there is nothing in them",
            location={"column": name},
            remedy="Leave the column out of features and label.",
        )


def bad_cell(name: str, row: int, what: str, remedy: str | None = None) -> InvalidDataError:
    """Say what is wrong in a row, counted from 1."""
    return InvalidDataError(
        f"column {name!r}, row {row} {what}",
        location={"row": row, "column": name},
        remedy=remedy or "Correct the cell or leave the row out.",
    )


def shown(value: object) -> str:
    """Quote a cell's content, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _parsed(name: str, values: np.ndarray, first_row: int, remedy: str | None) -> np.ndarray:
    import numpy as np

    parsed = np.full(values.size, np.nan)
    for place, value in enumerate(values.reshape(-1)):
        if value == "":
            continue
        try:
            parsed[place] = float(value)
        except (TypeError, ValueError):
            what = f"holds {shown(value)}, not a number"
            row = first_row + place // math.prod(values.shape[1:])
            raise bad_cell(name, row, what, remedy) from None
    return parsed.reshape(values.shape)
