"""Statistics of a table, a chunk at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cells import shown
from trainer.profile import Anomaly, ColumnProfile, DataProfile
from trainer.table import BYTES, DATE, OTHER, STRING, Field, Table

if TYPE_CHECKING:
    import numpy as np

_KINDS = {STRING: "category", DATE: "date", BYTES: "image"}
# Counting distinct values keeps them; beyond this many a column is no set of classes anyway.
MOST_DISTINCT = 1_000_000


def profile(kind: str, table: Table) -> DataProfile:
    """Describe every column of a table that a source of this kind gave."""
    names = [name for name, field in table.fields.items() if field.dtype != OTHER]
    found = {name: _Column(name, field) for name, field in table.fields.items()}
    for chunk in table.chunks(names):
        for name, values in chunk.items():
            found[name].see(values)
    return DataProfile(
        kind=kind,
        rows=table.rows,
        columns=tuple(column.profile() for column in found.values()),
        anomalies=tuple(anomaly for column in found.values() for anomaly in column.anomalies()),
    )


class _Column:
    """What is known of one column so far."""

    def __init__(self, name: str, field: Field) -> None:
        self._name, self._field = name, field
        self._rows = self._missing = self._count = 0
        self._numbers = 0
        self._first_missing: int | None = None
        self._first_text: tuple[int, str] | None = None
        self._sum = 0.0
        self._low, self._high = float("inf"), float("-inf")
        self._seen: set[object] | None = set()

    def see(self, values: np.ndarray) -> None:
        import numpy as np

        if not self._field.is_number:
            gaps = values == (b"" if self._field.dtype == BYTES else "")
        elif values.dtype.kind == "f":
            gaps = np.isnan(values)
        else:
            gaps = np.zeros(values.shape, bool)
        rows = gaps.reshape(len(values), -1).any(axis=1)
        if self._first_missing is None and rows.any():
            self._first_missing = self._rows + int(rows.argmax()) + 1
        self._rows += len(values)
        self._missing += int(gaps.sum())
        present = values[~gaps]
        if self._field.dtype == STRING and not self._field.shape:
            self._look_for_numbers(values, self._rows - len(values))
        if self._field.is_number and present.size:
            finite = present[np.isfinite(present)] if present.dtype.kind == "f" else present
            self._count += finite.size
            if finite.size:
                self._sum += float(finite.sum(dtype=np.float64))
                self._low, self._high = (
                    min(self._low, float(finite.min())),
                    max(self._high, float(finite.max())),
                )
        if self._seen is not None and self._field.dtype != BYTES:
            self._seen.update(np.unique(present).tolist())
            if len(self._seen) > MOST_DISTINCT:
                self._seen = None

    def _look_for_numbers(self, values: np.ndarray, before: int) -> None:
        import polars as pl

        column = pl.Series(values, dtype=pl.String)
        number = column.cast(pl.Float64, strict=False).is_not_null()
        self._numbers += int(number.sum())
        text = ~number & (column != "")
        if self._first_text is None and text.any():
            place = int(text.arg_max() or 0)
            self._first_text = before + place + 1, column[place]

    def profile(self) -> ColumnProfile:
        counted = self._count > 0
        return ColumnProfile(
            name=self._name,
            dtype=self._field.dtype,
            shape=self._field.shape,
            kind=("vector" if self._field.shape else "number")
            if self._field.is_number
            else _KINDS.get(self._field.dtype),
            missing=self._missing,
            distinct=len(self._seen)
            if self._seen is not None and self._field.dtype not in {BYTES, OTHER}
            else None,
            minimum=self._low if counted else None,
            maximum=self._high if counted else None,
            mean=self._sum / self._count if counted else None,
        )

    def anomalies(self) -> list[Anomaly]:
        found = []
        if self._first_text is not None and self._numbers * 2 >= self._rows:
            row, text = self._first_text
            found.append(Anomaly(column=self._name, row=row, detail=f"text among numbers: {shown(text)}"))
        if self._missing:
            detail = f"{self._missing} missing"
            found.append(Anomaly(column=self._name, row=self._first_missing, detail=detail))
        return found
