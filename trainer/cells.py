"""Cells of a table as numbers, with the first that is none told by its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import InvalidDataError

if TYPE_CHECKING:
    import numpy as np


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
        InvalidDataError: a cell holds text or no finite number, or nothing where it must not.
    """
    import numpy as np

    if values.dtype == object:
        values = _parsed(name, values, first_row, remedy_of_text)
    if values.dtype.kind == "f":
        _refuse(name, values, first_row, np.isinf(values), "holds {value}, not a finite number")
        if not may_miss:
            _refuse(name, values, first_row, np.isnan(values), "is empty or NaN", remedy)
    return values.astype(np.float32, copy=False)


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


def _refuse(
    name: str, values: np.ndarray, first_row: int, bad: np.ndarray, what: str, remedy: str | None = None
) -> None:
    if bad.any():
        rows = bad.reshape(len(values), -1).any(axis=1)
        place = int(rows.argmax())
        held = values[place].ravel()[int(bad[place].ravel().argmax())]
        raise bad_cell(name, first_row + place, what.format(value=held), remedy)


def _parsed(name: str, values: np.ndarray, first_row: int, remedy: str | None) -> np.ndarray:
    import numpy as np

    parsed = np.full(values.shape, np.nan)
    for place, value in enumerate(values):
        if value == "":
            continue
        try:
            parsed[place] = float(value)
        except (TypeError, ValueError):
            what = f"holds {shown(value)}, not a number"
            raise bad_cell(name, first_row + place, what, remedy) from None
    return parsed
