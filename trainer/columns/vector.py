"""Lists of numbers, as many in each row: embeddings, histograms, flattened pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field as Limits

from trainer.cells import numbers
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import Count, Flag
from trainer.moments import Moments, standardized
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KIND = "vector"


class Options(ColumnOptions):
    """Numbers of the same shape in each row, to which `shape` gives another shape of as many places."""

    kind: Literal["vector"]
    standardize: Flag = True
    shape: Annotated[tuple[Count, ...], Limits(min_length=1, max_length=5)] | None = None


def wire(options: Options, name: str, field: Field) -> Field:
    """Send it as float32 of the data's shape."""
    if not field.is_number or not field.shape:
        raise InvalidDataError(
            f"column {name!r} holds one {field.dtype} a row, a vector is a list of numbers",
            location={"column": name},
        )
    if options.shape is not None and math.prod(options.shape) != math.prod(field.shape):
        raise InvalidDataError(
            f"column {name!r} has rows of shape {field.shape}, which {options.shape} doesn't hold",
            location={"column": name},
        )
    return Field("float32", field.shape)


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:  # noqa: ARG001
    """Return finite float32 numbers."""
    return numbers(name, values, first_row)


class Fitter:
    """Mean and deviation of each place."""

    def __init__(self) -> None:
        self._moments = Moments()

    def see(self, values: np.ndarray) -> None:
        """Count them all."""
        self._moments.see(values)

    def state(self) -> State:
        """Say `mean` and `deviation`."""
        return self._moments.state()


def fitter(options: Options, wire: Field, name: str) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Begin to learn of a column."""
    return Fitter()


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Standardize where it is asked for, then reshape."""
    import tensorflow as tf

    def apply(values: tf.Tensor) -> tf.Tensor:
        values = standardized(values, state) if options.standardize else values
        return values if options.shape is None else tf.reshape(values, (-1, *options.shape))

    return Transform(apply)
