"""What may look wrong in a data set: by itself, and with the columns and the split that a spec names.

The rules are made so that a sound table has none:

- A cell that is missing, a text among numbers and a constant column are told as they are.
- Numbers are told as imprecise where float32, in which models take them, has a spacing at the largest of more
  than a hundredth of their deviation; whole numbers up to 2**24 it holds as they are.
- Rows that are there twice are told where a row says enough to be told from others: a column is of vectors,
  or of values that differ in half of the rows or more, or there are ten times as many combinations of values
  as rows. Else rows meet by chance.
- The same holds of features that are both in training rows and in rows held out.
- A label has classes if it is of texts, of kind category, or of whole numbers of which there are at most 100,
  and five rows for each.
- A feature says the label if the two are one-to-one, each value in five rows on average, or if numbers
  correlate by 0.9999 or more; of one feature alone a model may learn just that, so it is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.cells import shown
from trainer.hashing import Distinct, hashes, repeated, row_hashes
from trainer.profile import Anomaly, AnomalyCode, ColumnProfile
from trainer.table import OTHER, Chunk, Field, Table

if TYPE_CHECKING:
    import numpy as np

    from trainer.source import DataOptions

MOST_ROWS = 1_000_000
"""Of more rows, so many are looked at for what needs all of them at once."""
LEAK_ROWS = 100_000
"""Of more rows, so many are looked at for what says the label."""
FEWEST_ROWS = 20
MOST_CLASSES, ROWS_OF_A_CLASS, COMBINATIONS = 100, 5, 10
CORRELATED, WIDEST = 0.9999, 1024
FLOAT32_BITS, SPACINGS, NARROW = 24, 100, ("float16", "float32")
PARTS = ("training", "validation", "test")
TRAIN = 0
CATEGORY = "category"


def of_column(
    told: ColumnProfile, rows: int, first_missing: int | None, text: tuple[int, str] | None
) -> Iterator[Anomaly]:
    """Yield what looks wrong in one column; `text` is a row among numbers, and what it holds."""
    if text is not None:
        yield Anomaly(
            code=AnomalyCode.TEXT_AMONG_NUMBERS,
            column=told.name,
            row=text[0],
            detail=f"text among numbers: {shown(text[1])}",
        )
    if told.missing:
        yield Anomaly(
            code=AnomalyCode.MISSING_VALUES,
            column=told.name,
            row=first_missing,
            detail=f"{told.missing:,} missing",
        )
    same = told.minimum == told.maximum if told.shape else told.distinct == 1
    if rows > 1 and not told.missing and same and (told.minimum is not None or told.distinct == 1):
        value = told.top[0].value if told.top else told.minimum
        held = "the same" if value is None else shown(value)
        yield Anomaly(code=AnomalyCode.CONSTANT_COLUMN, column=told.name, detail=f"every row holds {held}")
    yield from _imprecise(told)


def _imprecise(told: ColumnProfile) -> Iterator[Anomaly]:
    """Yield that float32 doesn't tell the values of a column apart, if so."""
    if told.minimum is None or told.maximum is None or not told.deviation or told.dtype in NARROW:
        return
    largest = max(abs(told.minimum), abs(told.maximum))
    spacing = math.ldexp(1.0, math.frexp(largest)[1] - FLOAT32_BITS)
    whole = told.minimum.is_integer() and told.maximum.is_integer()
    if spacing * SPACINGS > told.deviation and (spacing > 1 or not whole):
        yield Anomaly(
            code=AnomalyCode.IMPRECISE_NUMBER,
            column=told.name,
            detail=f"float32 tells numbers near {largest:.15g} apart by {spacing:g}, and these deviate by "
            f"{told.deviation:.3g}: make it a date or a category, or subtract an offset before",
        )


class AllRows:
    """Rows that are there several times, of the first million."""

    def __init__(self) -> None:
        """Begin without any."""
        self._found: list[np.ndarray] = []
        self._rows = 0

    def see(self, columns: Mapping[str, np.ndarray]) -> None:
        """Take the hashes of some rows by column."""
        if columns and self._rows < MOST_ROWS:
            found = row_hashes(columns.values())[: MOST_ROWS - self._rows]
            self._found.append(found)
            self._rows += len(found)

    def anomalies(self, profiles: Mapping[str, ColumnProfile]) -> Iterator[Anomaly]:
        """Tell of them, if rows differ enough for that to mean something."""
        import numpy as np

        counts = [
            math.inf if told.shape else told.distinct or 1
            for told in profiles.values()
            if told.dtype != OTHER
        ]
        if not self._found or not _tell_apart(counts, self._rows):
            return
        again = repeated(np.concatenate(self._found))
        if len(again):
            yield Anomaly(
                code=AnomalyCode.DUPLICATED_ROWS,
                row=int(again[0]) + 1,
                detail=f"{len(again):,} of {self._rows:,} rows were there before",
            )


def anomalies(data: DataOptions, table: Table, parts: np.ndarray) -> list[Anomaly]:
    """Tell what looks wrong with these features, labels and parts, 0 those that train: uint8 (rows,).

    Only the first million rows are looked at, the first 100,000 for what says the label. Of more rows, no
    class or category is told of: one that is rare among the first may be frequent later.
    """
    looking = _Looking(data, table)
    done = 0
    for chunk in table.chunks(looking.names):
        height = min(len(next(iter(chunk.values()))), MOST_ROWS - done)
        looking.see({name: values[:height] for name, values in chunk.items()}, parts[done : done + height])
        done += height
        if done == MOST_ROWS:
            break
    return list(looking.anomalies(parts[:done]))


class _Looking:
    """One pass over features and labels."""

    def __init__(self, data: DataOptions, table: Table) -> None:
        fields = table.fields
        features = dict.fromkeys(name for columns in data.inputs.values() for name in columns)
        targets = dict.fromkeys(name for columns in data.targets.values() for name in columns)
        self.names = list(features | targets)
        self._features = list(features)
        self._fields = fields
        kinds = {name: options.kind for name, options in data.columns.items()}
        self._rows: list[np.ndarray] = []
        self._distinct = {name: Distinct() for name in features}
        self._categories = {name: _Categories(table.rows) for name in features if kinds.get(name) == CATEGORY}
        self._labels = [
            _Label(
                name, table, [each for each in features if each != name], named=kinds.get(name) == CATEGORY
            )
            for name in targets
            if not fields[name].shape
        ]
        # Of one number alone, a model may learn just what the label is made of.
        if sum(math.prod(fields[name].shape) for name in features) < 2:
            for label in self._labels:
                label.leaks = {}

    def see(self, chunk: Chunk, parts: np.ndarray) -> None:
        """Take some rows."""
        hashed = {name: hashes(values) for name, values in chunk.items()}
        self._rows.append(row_hashes(hashed[name] for name in self._features))
        for name, distinct in self._distinct.items():
            distinct.see(hashed[name])
        for name, categories in self._categories.items():
            categories.see(chunk[name], hashed[name], parts)
        for label in self._labels:
            label.see(chunk, hashed, parts)

    def anomalies(self, parts: np.ndarray) -> Iterator[Anomaly]:
        """Yield what was found."""
        for label in self._labels:
            yield from label.anomalies(len(parts))
        for name, categories in self._categories.items():
            yield from categories.unseen(name, "a category")
        yield from self._overlap(parts)

    def _overlap(self, parts: np.ndarray) -> Iterator[Anomaly]:
        import numpy as np

        counts = [
            math.inf if self._fields[name].shape else found.count for name, found in self._distinct.items()
        ]
        if not _tell_apart(counts, len(parts)):
            return
        rows = np.concatenate(self._rows)
        known = rows[parts == TRAIN]
        for number, part in enumerate(PARTS):
            places = np.flatnonzero(parts == number)
            if number == TRAIN or not len(places):
                continue
            again = places[np.isin(rows[places], known)]
            if len(again):
                yield Anomaly(
                    code=AnomalyCode.OVERLAP,
                    row=int(again[0]) + 1,
                    detail=f"{len(again):,} of {len(places):,} {part} rows have a training row's features",
                )


class _Label:
    """One label: its classes, and what says it."""

    def __init__(self, name: str, table: Table, features: Sequence[str], *, named: bool) -> None:
        fields = table.fields
        self._name, self._field, self._named = name, fields[name], named
        self._classes = _Categories(table.rows)
        self._distinct, self._looked_at = Distinct(), 0
        self.leaks: dict[str, _Leak] = {
            each: _Leak(fields[each]) for each in features if fields[each].dtype != OTHER
        }

    def see(self, chunk: Chunk, hashed: Mapping[str, np.ndarray], parts: np.ndarray) -> None:
        """Take some rows."""
        self._classes.see(chunk[self._name], hashed[self._name], parts)
        some = slice(max(0, LEAK_ROWS - self._looked_at))
        label = hashed[self._name][some]
        self._looked_at += len(label)
        if len(label):
            self._distinct.see(label)
            number = chunk[self._name][some] if self._field.is_number else None
            for name, leak in self.leaks.items():
                leak.see(chunk[name][some], number, hashed[name][some], label)

    def anomalies(self, rows: int) -> Iterator[Anomaly]:
        """Yield what was found."""
        classes = self._classes.count
        if classes is not None and self._has_classes(classes, rows):
            yield from self._classes.single(self._name)
            yield from self._classes.unseen(self._name, "a class")
        if self._looked_at < FEWEST_ROWS:
            return
        for name, leak in self.leaks.items():
            how = leak.how(self._distinct.count, self._looked_at)
            if how is not None:
                yield Anomaly(
                    code=AnomalyCode.LEAKED_LABEL, column=name, detail=f"{how} the label {self._name!r}"
                )

    def _has_classes(self, classes: int, rows: int) -> bool:
        if self._named or not self._field.is_number:
            return True
        few = classes <= min(MOST_CLASSES, rows // ROWS_OF_A_CLASS)
        return few and self._field.is_integer


class _Categories:
    """The values of a column: in how many rows, the first of them, and whether a training row has them."""

    MOST = 100_000

    def __init__(self, rows: int) -> None:
        """Begin without any, of so many rows in all: if they aren't all looked at, nothing can be told."""
        # By hash: value, first row, rows, whether trained on.
        self._found: dict[int, list[Any]] | None = {} if rows <= MOST_ROWS else None
        self._rows = 0

    @property
    def count(self) -> int | None:
        """How many there are; None if too many to tell."""
        return None if self._found is None else len(self._found)

    def see(self, values: np.ndarray, hashed: np.ndarray, parts: np.ndarray) -> None:
        """Take some values with their hashes and parts."""
        import numpy as np

        if self._found is None:
            return
        found, first, inverse, counts = np.unique(
            hashed, return_index=True, return_inverse=True, return_counts=True
        )
        trained = np.zeros(len(found), bool)
        trained[inverse[parts == TRAIN]] = True
        if len(found) + len(self._found) > self.MOST:
            self._found = None
            return
        for key, place, count, train in zip(
            found.tolist(), first.tolist(), counts.tolist(), trained.tolist(), strict=True
        ):
            known = self._found.setdefault(key, [values[place], self._rows + place + 1, 0, False])
            known[2] += count
            known[3] |= train
        self._rows += len(values)

    def single(self, name: str) -> Iterator[Anomaly]:
        """Tell of those that are in one row only."""
        yield from self._told(
            name, AnomalyCode.SINGLE_ROW_CLASS, lambda each: each[2] == 1, "a class of a single row"
        )

    def unseen(self, name: str, noun: str) -> Iterator[Anomaly]:
        """Tell of those that no training row has."""
        yield from self._told(
            name, AnomalyCode.UNSEEN_CATEGORY, lambda each: not each[3], f"{noun} that no training row has"
        )

    def _told(
        self, name: str, code: AnomalyCode, bad: Callable[[list[Any]], bool], what: str
    ) -> Iterator[Anomaly]:
        found = sorted((each for each in (self._found or {}).values() if bad(each)), key=lambda each: each[1])
        if found:
            value, row, *_ = found[0]
            more = f", and {len(found) - 1:,} more such" if len(found) > 1 else ""
            text = shown(value.item() if hasattr(value, "item") else value)
            yield Anomaly(code=code, column=name, row=row, detail=f"{text} is {what}{more}")


class _Leak:
    """How much a feature says of a label."""

    def __init__(self, field: Field) -> None:
        wide = math.prod(field.shape) > WIDEST
        self._correlation = _Correlation() if field.is_number and not wide else None
        self._values = None if field.shape else Distinct()
        self._pairs = Distinct()

    def see(
        self, values: np.ndarray, label: np.ndarray | None, hashed: np.ndarray, label_hashed: np.ndarray
    ) -> None:
        """Take some rows; `label` where it is a number."""
        if self._correlation is not None and label is not None:
            self._correlation.see(values.reshape(len(values), -1), label)
        if self._values is not None:
            self._values.see(hashed)
            self._pairs.see(row_hashes([hashed, label_hashed]))

    def how(self, classes: int, rows: int) -> str | None:
        """Say how it leaks, if it does, of a label of so many different values in so many rows."""
        if self._values is not None:
            few = 2 <= classes <= min(Distinct.KEPT, rows // ROWS_OF_A_CLASS)
            if few and self._values.count == self._pairs.count == classes:
                return "is one-to-one with"
        place = self._correlation.place() if self._correlation is not None else None
        if place is None:
            return None
        at, width = place
        return f"{f'value {at + 1} of each row ' if width > 1 else ''}correlates by {CORRELATED} or more with"


class _Correlation:
    """Pearson's correlation of each column of a feature with a label, as far as both are there."""

    def __init__(self) -> None:
        self._sums: np.ndarray | None = None

    def see(self, values: np.ndarray, label: np.ndarray) -> None:
        """Add up; about the first row's values, so that nothing large cancels out."""
        import numpy as np

        x, y = values.astype(np.float64), label.astype(np.float64)[:, np.newaxis]
        if self._sums is None:
            self._about = np.nan_to_num(x[:1]), np.nan_to_num(y[:1])
            self._sums = np.zeros((6, x.shape[1]))
        there = np.isfinite(x) & np.isfinite(y)
        x = np.where(there, x - self._about[0], 0.0)
        y = np.where(there, y - self._about[1], 0.0)
        for place, each in enumerate((there, x, y, x * x, y * y, x * y)):
            self._sums[place] += each.sum(axis=0)

    def place(self) -> tuple[int, int] | None:
        """Return the first column that correlates, and how many there are."""
        import numpy as np

        if self._sums is None:
            return None
        count, x, y, xx, yy, xy = self._sums
        with np.errstate(all="ignore"):
            apart = xy - x * y / count
            wide = np.sqrt((xx - x * x / count) * (yy - y * y / count))
            # What hardly varies correlates by how it was rounded.
            varies = (xx - x * x / count > 1e-12 * xx) & (yy - y * y / count > 1e-12 * yy)
            found = varies & (count >= FEWEST_ROWS) & (np.abs(apart) >= CORRELATED * wide)
        return (int(found.argmax()), len(found)) if found.any() else None


def _tell_apart(counts: Sequence[float], rows: int) -> bool:
    """Whether two rows that are the same are so hardly by chance, by the different values in each column."""
    return any(count * 2 >= rows for count in counts) or math.prod(counts) >= COMBINATIONS * rows
