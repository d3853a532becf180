"""From the columns of a table or a request to a model's inputs; what was fitted is served with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.cells import numbers
from trainer.column import ColumnKind, ColumnOptions, Fitter, State, Transform, column_kinds
from trainer.errors import InvalidDataError
from trainer.table import Chunk, Field

if TYPE_CHECKING:
    import numpy as np

    from trainer.source import DataOptions


@dataclass(frozen=True)
class Column:
    """A column of the features and how it is prepared; `options` are None where nothing is said of it."""

    name: str
    field: Field
    options: ColumnOptions | None

    @property
    def kind(self) -> ColumnKind:
        """The implementation of its kind."""
        assert self.options is not None
        return column_kinds()[self.options.kind]

    @property
    def wire(self) -> Field:
        """Its form in a request."""
        if self.options is not None:
            return self.kind.wire(self.options, self.name, self.field)
        return Field(
            "float32" if self.field.dtype.startswith("float") else self.field.dtype, self.field.shape
        )

    def read(self, values: np.ndarray, first_row: int) -> np.ndarray:
        """Return a table's values in the wire's form; `first_row` is the number of the first, from 1.

        Raises:
            InvalidDataError: one of them won't do.
        """
        if self.options is not None:
            return self.kind.read(self.options, self.name, values, first_row)
        return numbers(self.name, values, first_row)


class Preprocessing:
    """A model's inputs out of columns: as they are, or prepared by what was fitted of them.

    Where the spec says nothing of any column, `prepares` is false: the inputs are the columns side by side,
    and the model is served as it is.
    """

    def __init__(
        self, data: DataOptions, fields: Mapping[str, Field], fitted: Mapping[str, State] | None = None
    ) -> None:
        """Match the columns that the data section names with those that there are.

        Raises:
            InvalidDataError: a column can't be of the kind that the spec says.
        """
        self._inputs = data.inputs
        names = dict.fromkeys(name for columns in self._inputs.values() for name in columns)
        self.columns = {name: Column(name, fields[name], data.columns.get(name)) for name in names}
        self.wire = {name: column.wire for name, column in self.columns.items()}
        self.prepares = any(column.options is not None for column in self.columns.values())
        self.fitted = dict(fitted) if fitted is not None else None
        self._fitters = self._begin() if self.fitted is None else {}
        self._transforms: dict[str, Transform] | None = None

    @property
    def needs_fitting(self) -> bool:
        """Whether training rows must be seen before any can be prepared."""
        return bool(self._fitters)

    def read(self, chunk: Chunk, first_row: int) -> Chunk:
        """Return the features' columns in the form in which requests send them."""
        return {name: column.read(chunk[name], first_row) for name, column in self.columns.items()}

    def see(self, wire: Chunk) -> None:
        """Learn from some training rows, which `read` gave."""
        for name, fitter in self._fitters.items():
            fitter.see(wire[name])

    def settle(self) -> None:
        """Keep what was learnt; from now on rows can be prepared."""
        if self.fitted is None:
            self.fitted = {name: fitter.state() for name, fitter in self._fitters.items()}
        self._fitters = {}

    def prepare(self, wire: Chunk) -> dict[str, np.ndarray]:
        """Return the inputs by name, (rows, ...), for columns in the wire's form."""
        if not self.prepares:
            return {name: _side_by_side(columns, wire) for name, columns in self._inputs.items()}
        raise NotImplementedError

    def _begin(self) -> dict[str, Fitter]:
        return {
            name: column.kind.fitter(column.options, self.wire[name])
            for name, column in self.columns.items()
            if column.options is not None
        }


def _side_by_side(columns: tuple[str, ...], wire: Chunk) -> np.ndarray:
    """Return one column as it is, a flat one as (rows, 1); several as float32 of shape (rows, values)."""
    import numpy as np

    if len(columns) == 1:
        values = wire[columns[0]]
        return values[:, np.newaxis] if values.ndim == 1 else values
    for name in columns:
        if wire[name].ndim > 2:
            raise InvalidDataError(
                f"column {name!r} has rows of shape {wire[name].shape[1:]}: "
                "it can't stand beside others in one input",
                location={"column": name},
            )
    return np.column_stack([wire[name].astype(np.float32, copy=False) for name in columns])
