"""From label columns to targets: classes by number, numbers as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.cells import bad_cell, gaps, numbers, refuse, refuse_without_values, whole
from trainer.errors import InvalidDataError
from trainer.table import DATE, STRING, Chunk, Field

if TYPE_CHECKING:
    import numpy as np

    from trainer.column import ColumnOptions

CATEGORY = "category"
_TEXTS = 'Say {{"{name}": {{"kind": "category"}}}} in data.columns if the label has names for its classes.'
MOST_CLASSES = 100_000


class Targets:
    """The targets by name, out of the columns that the spec calls labels.

    A label of kind `category` becomes the number of its class; `classes` has their names, in that order: as
    the spec's `vocabulary` lists them, else sorted.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        options: Mapping[str, ColumnOptions],
        fields: Mapping[str, Field],
        classes: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Match the label columns with those that there are; `classes` are those known before.

        Raises:
            InvalidDataError: a column can't be a label, or not one of classes.
        """
        self._targets = {name: tuple(columns) for name, columns in targets.items()}
        self.columns = tuple(dict.fromkeys(name for columns in self._targets.values() for name in columns))
        self._fields = fields
        self.classes: dict[str, list[Any]] = {name: list(each) for name, each in (classes or {}).items()}
        self._seen: dict[str, set[Any]] = {}
        for name in self.columns:
            refuse_without_values(name, fields[name])
            asked = options.get(name)
            if asked is None or asked.kind != CATEGORY:
                continue
            _refuse_unfit(name, fields[name])
            if name in self.classes:
                continue
            vocabulary = getattr(asked, "vocabulary", None)
            if vocabulary is not None:
                self.classes[name] = list(vocabulary)
            else:
                self._seen[name] = set()

    @property
    def needs_fitting(self) -> bool:
        """Whether the classes of a label aren't known yet."""
        return bool(self._seen)

    def see(self, chunk: Chunk, first_row: int) -> None:
        """Learn the classes of some rows."""
        import numpy as np

        for name, seen in self._seen.items():
            values = self._values(name, chunk[name], first_row)
            seen.update(np.unique(values).tolist())
            if len(seen) > MOST_CLASSES:
                raise InvalidDataError(
                    f"label {name!r} has more than {MOST_CLASSES:,} classes", location={"column": name}
                )

    def settle(self) -> None:
        """Number what was seen."""
        self.classes |= {name: sorted(seen) for name, seen in self._seen.items()}
        self._seen = {}

    def read(self, chunk: Chunk, first_row: int) -> dict[str, np.ndarray]:
        """Return classes and whole numbers as int64, others as float32: (rows,), of several (rows, columns).

        Raises:
            InvalidDataError: a cell is no finite number, or of no class that is known.
        """
        import numpy as np

        read = {name: self._column(name, chunk[name], first_row) for name in self.columns}
        return {
            target: read[columns[0]]
            if len(columns) == 1
            else np.column_stack([read[name] for name in columns])
            for target, columns in self._targets.items()
        }

    def _column(self, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
        if name in self.classes:
            return self._numbered(name, self._values(name, values, first_row), first_row)
        if self._fields[name].is_integer:
            return whole(name, values, first_row)
        return numbers(name, values, first_row, remedy_of_text=_TEXTS.format(name=name))

    def _values(self, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
        """Return a label's values, of which none may be missing."""
        refuse(name, values, first_row, gaps(values), "is empty: a label must be there")
        return whole(name, values, first_row) if self._fields[name].is_number else values

    def _numbered(self, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
        import numpy as np

        classes = self.classes[name]
        numbers_of = {value: number for number, value in enumerate(classes)}
        found, inverse = np.unique(values, return_inverse=True)
        known = np.array([numbers_of.get(value, -1) for value in found.tolist()], np.int64)
        numbered: np.ndarray = known[inverse]
        which = f"holds {{value}}, which is none of the classes known: {_some(classes)}"
        refuse(name, values, first_row, numbered < 0, which)
        return numbered


def weights_of(column: str, values: np.ndarray, first_row: int = 1) -> np.ndarray:
    """Return a column as the weights of its rows, float32 of shape (rows,).

    Raises:
        InvalidDataError: a row has several values, a negative one or none.
    """
    if values.ndim != 1:
        raise InvalidDataError(
            f"sample_weight {column!r} has rows of shape {values.shape[1:]}, each row needs one number",
            location={"column": column},
        )
    weights = numbers(column, values, first_row)
    if (weights < 0).any():
        place = int((weights < 0).argmax())
        raise bad_cell(
            column,
            first_row + place,
            f"is {weights[place]:g}, which is negative",
            "A row that shall not count has weight 0.",
        )
    return weights


def _refuse_unfit(name: str, field: Field) -> None:
    if not field.is_number and field.dtype not in {STRING, DATE}:
        raise InvalidDataError(
            f"label {name!r} holds {field.dtype}, a category is a text or a whole number",
            location={"column": name},
        )


def _some(values: Iterable[Any]) -> str:
    listed = [str(value) for value in values]
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
