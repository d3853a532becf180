"""The contract of a kind of column: how its values become numbers for a model, as fitted on training rows.

The same TensorFlow functions prepare training rows and, inside the served graph, those of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from trainer.discovery import discover
from trainer.forms import SpecModel
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

State = Mapping[str, Any]
"""What was fitted; JSON."""


class ColumnOptions(SpecModel):
    """What a column holds, and how it is prepared."""

    kind: str


class Fitter(Protocol):
    """What is learnt of one column, a chunk at a time."""

    def see(self, values: np.ndarray) -> None:
        """Take the column's values in some training rows, in the rows' order."""

    def state(self) -> State:
        """Say what was learnt."""


@dataclass(frozen=True)
class Transform:
    """What prepares a column: (rows, ...) in the wire's form to numbers (rows, width) or (rows, ...).

    `keeps` are the TensorFlow objects that `apply` needs (tables, layers): a SavedModel must keep them too.
    """

    apply: Callable[[tf.Tensor], tf.Tensor]
    keeps: tuple[Any, ...] = ()


class ColumnKind(Protocol):
    """A module of `trainer.columns`."""

    KIND: str
    Options: type[ColumnOptions]

    @staticmethod
    def wire(options: Any, name: str, field: Field) -> Field:  # noqa: ANN401  # the module's own Options
        """Say in which form requests send the column; raises InvalidDataError if it can't be of this kind."""

    @staticmethod
    def read(options: Any, name: str, values: np.ndarray, first_row: int) -> np.ndarray:  # noqa: ANN401
        """Return a table's values in the wire's form; raises InvalidDataError at the first that won't do."""

    @staticmethod
    def fitter(options: Any, wire: Field, name: str) -> Fitter:  # noqa: ANN401
        """Begin to learn of a column; raises InvalidDataError if the options don't fit it."""

    @staticmethod
    def transform(options: Any, wire: Field, state: State, name: str) -> Transform:  # noqa: ANN401
        """Make what was learnt into TensorFlow."""


@cache
def column_kinds() -> dict[str, ColumnKind]:
    """Return every kind of column by its name."""
    found = discover("trainer.columns", "KIND", "Options", "wire", "read", "fitter", "transform")
    return {kind: cast("ColumnKind", module) for kind, module in found.items()}
