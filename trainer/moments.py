"""Mean and deviation of numbers that come a chunk at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Moments:
    """Chan, Golub and LeVeque's update (1979), in float64: no cancellation however large the mean is."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def see(self, values: np.ndarray) -> None:
        """Take finite numbers of any shape into account."""
        import numpy as np

        if not values.size:
            return
        wide = values.astype(np.float64, copy=False)
        mean = float(wide.mean())
        squares = float(((wide - mean) ** 2).sum())
        together = self.count + values.size
        apart = mean - self.mean
        self._squares += squares + apart**2 * self.count * values.size / together
        self.mean += apart * values.size / together
        self.count = together

    @property
    def deviation(self) -> float:
        """The population's standard deviation."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0
