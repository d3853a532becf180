"""From label columns to targets: classes by number, numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.cells import bad_cell, numbers
from trainer.errors import InvalidDataError
from trainer.table import Chunk, Field

if TYPE_CHECKING:
    import numpy as np

    from trainer.source import DataOptions


class Targets:
    """The targets by name, out of the columns that the spec calls labels."""

    def __init__(self, data: DataOptions, fields: Mapping[str, Field]) -> None:
        """Match the label columns that the data section names with those that there are."""
        self._targets = data.targets
        self.columns = tuple(dict.fromkeys(name for columns in self._targets.values() for name in columns))
        self._fields = fields

    @property
    def names(self) -> tuple[str, ...]:
        """The targets, in the spec's order."""
        return tuple(self._targets)

    def read(self, chunk: Chunk, first_row: int) -> dict[str, np.ndarray]:
        """Return whole numbers as int64, others as float32: (rows,), or (rows, columns) of several columns.

        Raises:
            InvalidDataError: a cell is no finite number.
        """
        import numpy as np

        read = {name: self._numbers(name, chunk[name], first_row) for name in self.columns}
        return {
            target: read[columns[0]]
            if len(columns) == 1
            else np.column_stack([read[name] for name in columns])
            for target, columns in self._targets.items()
        }

    def _numbers(self, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
        import numpy as np

        if self._fields[name].is_integer:
            return values.astype(np.int64, copy=False)
        return numbers(name, values, first_row)


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
            f"is {weights[place]:g}, which no weight can be",
            "A row that shall not count has weight 0.",
        )
    return weights
