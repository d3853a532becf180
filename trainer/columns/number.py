"""Numbers, standardized by the training rows' mean and deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainer.cells import numbers
from trainer.column import ColumnOptions, State, Transform
from trainer.forms import Flag, Number, one_message
from trainer.moments import Moments
from trainer.table import Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KIND = "number"


class Options(ColumnOptions):
    """A number a row; NaN is a missing one, for which `missing` says what stands in its place."""

    kind: Literal["number"]
    standardize: Flag = True
    missing: Annotated[
        Literal["error", "mean", "median"] | Number,
        one_message('expected "error", "mean", "median" or a number'),
    ] = "error"


def wire(options: Options, name: str, field: Field) -> Field:  # noqa: ARG001 - the contract of columns
    """Send it as float32."""
    return Field("float32", field.shape)


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
    """Return finite float32 numbers, NaN where one may be missing."""
    return numbers(name, values, first_row, may_miss=options.missing != "error")


class Fitter:
    """Mean and deviation, and the median where it is asked for."""

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
        """Say the fitted `mean` and `deviation`, and what to `fill` gaps with; of rows filled so."""
        import numpy as np

        fill = self._options.missing
        if fill == "error":
            filled = None
        elif fill == "mean":
            filled = self._moments.mean
        elif fill == "median":
            filled = float(np.median(np.concatenate(self._all))) if self._moments.count else 0.0
        else:
            filled = float(fill)
        return {"mean": self._moments.mean, "deviation": self._moments.deviation, "fill": filled}


def fitter(options: Options, wire: Field) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Begin to learn of a column."""
    return Fitter(options)


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Fill the gaps, then (x - mean) / deviation where it is asked for."""
    import tensorflow as tf

    def apply(values: tf.Tensor) -> tf.Tensor:
        values = tf.cast(values, tf.float32)
        if state["fill"] is not None:
            values = tf.where(tf.math.is_nan(values), tf.constant(state["fill"], tf.float32), values)
        if options.standardize:
            # A column of one value comes out as zeros.
            values = (values - state["mean"]) / (state["deviation"] or 1.0)
        return values

    return Transform(apply)
