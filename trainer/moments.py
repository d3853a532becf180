"""Mean and deviation of numbers that come a chunk at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Moments:
    """Chan, Golub and LeVeque's update (1979), in float64: no cancellation however large the mean is.

    Of rows (rows, ...), `mean` and `deviation` (the population's) are those of each place: float64 (...).
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: npt.NDArray[np.float64] | float = 0.0
        self._squares: npt.NDArray[np.float64] | float = 0.0

    def see(self, values: np.ndarray) -> None:
        """Take finite numbers into account."""
        import numpy as np

        if not len(values):
            return
        wide = values.astype(np.float64, copy=False)
        mean = wide.mean(axis=0)
        squares = ((wide - mean) ** 2).sum(axis=0)
        together = self.count + len(values)
        apart = mean - self._mean
        self._squares = self._squares + squares + apart**2 * (self.count * len(values) / together)
        self._mean = self._mean + apart * (len(values) / together)
        self.count = together

    def state(self) -> dict[str, Any]:
        """Say `mean` and `deviation` as JSON: a number, or lists of the row's shape."""
        import numpy as np

        deviation = np.sqrt(np.asarray(self._squares) / max(1, self.count))
        return {"mean": np.asarray(self._mean).tolist(), "deviation": deviation.tolist()}


def standardized(values: Any, state: Any) -> Any:  # noqa: ANN401 - tensors, which have no types
    """Return (x - mean) / deviation; what is the same in all rows comes out as zero."""
    import numpy as np
    import tensorflow as tf

    deviation = np.asarray(state["deviation"], np.float32)
    scale = np.where(deviation > 0, deviation, np.float32(1))
    return (values - tf.constant(state["mean"], tf.float32)) / tf.constant(scale, tf.float32)
