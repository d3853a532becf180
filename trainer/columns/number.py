"""Numbers, standardized by the training rows' mean and deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Limits

from trainer.cells import FLOAT32_MAX, numbers
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import Flag, Number, one_message
from trainer.moments import Moments, standardized
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KIND = "number"
_GAPS = 'Say "missing": "mean", "median" or a number in data.columns, or correct the cell.'


class Options(ColumnOptions):
    """A number a row; NaN is a missing one, and `missing` says what stands in its place."""

    kind: Literal["number"]
    standardize: Flag = True
    missing: Annotated[
        Literal["error", "mean", "median"] | Annotated[Number, Limits(ge=-FLOAT32_MAX, le=FLOAT32_MAX)],
        one_message('expected "error", "mean", "median" or a number of float32'),
    ] = "error"


def wire(options: Options, name: str, field: Field) -> Field:  # noqa: ARG001 - the contract of columns
    """Send it as float32."""
    if field.shape:
        raise InvalidDataError(
            f"column {name!r} holds {field.dtype} of shape {field.shape}, not one number a row",
            location={"column": name},
            remedy='Of lists of numbers say {"kind": "vector"} in data.columns.',
        )
    return Field("float32")


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
    """Return finite float32 numbers, NaN where one may be missing."""
    return numbers(name, values, first_row, may_miss=options.missing != "error", remedy=_GAPS)


class Fitter:
    """Mean and deviation of what is there; the median, where it is asked for, keeps all values."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._moments = Moments()
        self._all: list[np.ndarray] = []

    def see(self, values: np.ndarray) -> None:
        """Count what isn't missing."""
        import numpy as np

        present = values[~np.isnan(values)]
        self._moments.see(present)
        if self._options.missing == "median":
            self._all.append(present)

    def state(self) -> State:
        """Say `mean` and `deviation`, and what to `fill` gaps with."""
        import numpy as np

        moments = self._moments.state()
        fill: Any = self._options.missing
        if fill == "mean":
            fill = moments["mean"]
        elif fill == "median":
            fill = float(np.median(np.concatenate(self._all))) if self._moments.count else 0.0
        return {**moments, "fill": None if fill == "error" else fill}


def fitter(options: Options, wire: Field, name: str) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Begin to learn of a column."""
    return Fitter(options)


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Fill the gaps, then (x - mean) / deviation where it is asked for."""
    import tensorflow as tf

    def apply(values: tf.Tensor) -> tf.Tensor:
        if state["fill"] is not None:
            values = tf.where(tf.math.is_nan(values), tf.constant(state["fill"], tf.float32), values)
        return standardized(values, state) if options.standardize else values

    return Transform(apply)
