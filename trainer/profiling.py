"""Statistics of a table, a chunk at a time."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from trainer.anomalies import AllRows, of_column
from trainer.cells import gaps
from trainer.columns.date import are_dates
from trainer.hashing import Distinct, hashes
from trainer.moments import Moments
from trainer.profile import ColumnProfile, DataProfile, Frequency
from trainer.source import DataFile, sources
from trainer.table import BYTES, DATE, OTHER, STRING, Field, Table

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

SAMPLE_ROWS = 50_000
MOST_COUNTED, TOP, LONGEST_SHOWN = 50_000, 10, 100
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM")
_FEW_TEXTS = 20


def inspect(file: DataFile, kind: str) -> DataProfile:
    """Describe the columns of a file of that kind.

    Raises:
        InvalidDataError: the file isn't what its kind says.
    """
    return profile(kind, sources()[kind].open_table(None, file))


def profile(kind: str, table: Table) -> DataProfile:
    """Describe every column of a table that a source of this kind gave."""
    names = [name for name, field in table.fields.items() if field.dtype != OTHER]
    found = {name: _Column(name, field) for name, field in table.fields.items()}
    rows = AllRows()
    sample = _Sample()
    for chunk in table.chunks(names):
        sample.choose(len(next(iter(chunk.values()))))
        hashed = {name: hashes(values) for name, values in chunk.items()}
        for name, values in chunk.items():
            found[name].see(values, hashed[name], sample)
        rows.see(hashed)
    profiles = [column.profile() for column in found.values()]
    return DataProfile(
        kind=kind,
        rows=table.rows,
        columns=tuple(profiles),
        anomalies=(
            *(
                anomaly
                for column, told in zip(found.values(), profiles, strict=True)
                for anomaly in of_column(told, table.rows, column.first_missing, column.text_among_numbers)
            ),
            *rows.anomalies({told.name: told for told in profiles}),
        ),
    )


class _Sample:
    """The same rows of every column, each as likely as any: quantiles are theirs."""

    def __init__(self) -> None:
        """Draw by a fixed seed: a data set has one profile."""
        import numpy as np

        self._rng = np.random.default_rng(0)
        self.share = 1.0
        self._kept = np.empty(0)
        self.before = np.empty(0, bool)
        """Which of the rows kept so far still are."""
        self.here = np.empty(0, bool)
        """Which of this chunk's rows are kept."""

    def choose(self, rows: int) -> None:
        """Draw among the next rows; where too many are kept, half of them go."""
        import numpy as np

        drawn = self._rng.random(rows)
        while (self._kept < self.share).sum() + (drawn < self.share).sum() > SAMPLE_ROWS:
            self.share /= 2
        self.before, self.here = self._kept < self.share, drawn < self.share
        self._kept = np.concatenate([self._kept[self.before], drawn[self.here]])


class _Column:
    """What is known of one column so far."""

    def __init__(self, name: str, field: Field) -> None:
        """Begin without any row."""
        self._name, self._field = name, field
        self._rows = self._missing = 0
        self._low, self._high = math.inf, -math.inf
        self._moments = Moments()
        self._distinct = Distinct()
        self._texts = _Texts() if field.dtype in {STRING, DATE} and not field.shape else None
        self._sampled: np.ndarray | None = None
        self._images = True
        self.first_missing: int | None = None

    @property
    def text_among_numbers(self) -> tuple[int, str] | None:
        """The first row that holds no number, and what it holds, where half of the rows are numbers."""
        if self._texts is None or self._texts.numbers * 2 < self._rows:
            return None
        return self._texts.first_text

    def see(self, values: np.ndarray, hashed: np.ndarray, sample: _Sample) -> None:
        """Take the column's values in the next rows, with their hashes."""
        import numpy as np

        missing = gaps(values)
        rows = missing.reshape(len(values), -1).any(axis=1)
        if self.first_missing is None and rows.any():
            self.first_missing = self._rows + int(rows.argmax()) + 1
        self._missing += int(missing.sum())
        self._distinct.see(hashed[~rows])
        if self._texts is not None:
            self._texts.see(values, self._rows)
        elif self._field.dtype == BYTES:
            self._images = self._images and all(value.startswith(_IMAGES) for value in values[~rows][:16])
        elif self._field.is_number and values.size:
            self._see_numbers(values[~missing])
            kept = _one_each(values[sample.here], self._rows).astype(np.float64)
            before = self._sampled[sample.before] if self._sampled is not None else kept[:0]
            self._sampled = np.concatenate([before, kept])
        self._rows += len(values)

    def _see_numbers(self, present: np.ndarray) -> None:
        import numpy as np

        finite = present[np.isfinite(present)] if present.dtype.kind == "f" else present
        if finite.size:
            self._moments.see(finite)
            self._low = min(self._low, float(finite.min()))
            self._high = max(self._high, float(finite.max()))

    def profile(self) -> ColumnProfile:
        """Say what was seen."""
        counted = self._low <= self._high
        moments = self._moments.state() if counted else {}
        return ColumnProfile(
            name=self._name,
            dtype=self._field.dtype,
            shape=self._field.shape,
            kind=self._kind(),
            missing=self._missing,
            distinct=None if self._field.shape or self._field.dtype == OTHER else self._distinct.count,
            minimum=_finite(self._low),
            maximum=_finite(self._high),
            mean=_finite(moments.get("mean")),
            deviation=_finite(moments.get("deviation")),
            quantiles=self._quantiles() if counted else None,
            top=self._texts.top() if self._texts is not None else None,
        )

    def _quantiles(self) -> tuple[float, ...] | None:
        import numpy as np

        assert self._sampled is not None
        finite = self._sampled[np.isfinite(self._sampled)]
        if not finite.size:
            return None
        return tuple(np.quantile(finite, np.arange(1, 10) / 10).tolist())

    def _kind(self) -> str | None:
        if self._field.is_number:
            return None if 0 in self._field.shape else "vector" if self._field.shape else "number"
        if self._field.dtype == BYTES:
            return "image" if self._images and self._missing < self._rows else None
        if self._texts is None:
            return None
        return "date" if self._field.dtype == DATE else self._texts.kind(self._distinct.count)


def _one_each(rows: np.ndarray, first: int) -> np.ndarray:
    """Return one number of each row, of one place after another."""
    import numpy as np

    if rows.ndim == 1:
        return rows
    flat = rows.reshape(len(rows), -1)
    numbers = np.arange(len(rows))
    return flat[numbers, (numbers + first) % flat.shape[1]]


class _Texts:
    """What is known of the texts in a column."""

    def __init__(self) -> None:
        """Begin without any."""
        self.numbers = 0
        self.first_text: tuple[int, str] | None = None
        self._present = self._dates = self._spaces = 0
        self._counts: Counter[str] = Counter()

    def see(self, values: np.ndarray, before: int) -> None:
        """Take some texts; `before` is how many rows came earlier."""
        import polars as pl

        column = pl.Series("value", values.tolist(), dtype=pl.String)
        number = column.cast(pl.Float64, strict=False).is_not_null()
        text = ~number & (column != "")
        if self.first_text is None and text.any():
            place = int(text.arg_max() or 0)
            self.first_text = before + place + 1, column[place]
        present = column.filter(column != "")
        self.numbers += int(number.sum())
        self._present += len(present)
        self._dates += int(are_dates(present).sum())
        self._spaces += int(present.str.count_matches(" ", literal=True).sum())
        self._count(present)

    def _count(self, present: pl.Series) -> None:
        counted = present.str.slice(0, LONGEST_SHOWN).value_counts(name="count")
        self._counts.update(dict(zip(counted["value"].to_list(), counted["count"].to_list(), strict=True)))
        if len(self._counts) > MOST_COUNTED:
            self._counts = Counter(dict(self._counts.most_common(MOST_COUNTED // 2)))

    def top(self) -> tuple[Frequency, ...]:
        """Return the most frequent texts."""
        most = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))[:TOP]
        return tuple(Frequency(value=value, count=count) for value, count in most)

    def kind(self, distinct: int) -> str:
        """Say date, text or category: a text has several words and is seldom there twice."""
        if self._present and self._dates == self._present:
            return "date"
        seldom = distinct > max(_FEW_TEXTS, self._present // 10)
        return "text" if seldom and self._spaces >= 2 * self._present else "category"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
