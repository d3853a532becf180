"""64-bit hashes of cells and rows: equal ones are taken for the same.

Of a million rows, two different ones have the same hash once in 40 million data sets.
Splits go by the hashes of numbers: with others, rows would change side between a version and the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_AT_ONCE = 1 << 20


def hashes(values: np.ndarray) -> np.ndarray:
    """Return a hash of each row of a column, uint64 (rows,)."""
    import numpy as np

    width = math.prod(values.shape[1:])
    if values.ndim == 1:
        return _mixed(_words(values) + np.uint64(_GOLDEN))  # as it is, 0 stays 0
    found = np.zeros(len(values), np.uint64)
    size = max(1, _AT_ONCE // max(1, width))
    places = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    for start in range(0, len(values), size):
        piece = values[start : start + size]
        words = _words(piece.reshape(-1)).reshape(len(piece), width)
        found[start : start + size] = _mixed(words + places).sum(axis=1, dtype=np.uint64)
    return _mixed(found)


def row_hashes(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Return a hash of each row of several columns' hashes, uint64 (rows,)."""
    import numpy as np

    whole: np.ndarray | None = None
    for column in columns:
        whole = column if whole is None else _mixed(whole * np.uint64(_GOLDEN) + column)
    assert whole is not None
    return whole


def repeated(found: np.ndarray) -> np.ndarray:
    """Return the places of what was there before, in their order."""
    import numpy as np

    order = np.argsort(found, kind="stable")
    again = found[order][1:] == found[order][:-1]
    places: np.ndarray = np.sort(order[1:][again])
    return places


class Distinct:
    """How many different values there are: exact up to 16,384, within about 1 % beyond.

    Of all hashes the least are kept; how close together they are says how many there are in all.
    Bar-Yossef et al., "Counting distinct elements in a data stream", 2002.
    """

    KEPT = 1 << 14

    def __init__(self) -> None:
        """Begin without any."""
        import numpy as np

        self._least = np.empty(0, np.uint64)

    def see(self, found: np.ndarray) -> None:
        """Take some hashes."""
        import numpy as np

        if len(self._least) == self.KEPT:
            found = found[found < self._least[-1]]
        if len(found):
            # Sorted by hand: np.unique puts them into a hash table first, which takes four times as long.
            least = np.sort(np.concatenate([self._least, found]))
            self._least = least[np.append(True, least[1:] != least[:-1])][: self.KEPT]

    @property
    def count(self) -> int:
        """How many there were."""
        if len(self._least) < self.KEPT:
            return len(self._least)
        return round((self.KEPT - 1) * 2**64 / int(self._least[-1]))


def _words(values: np.ndarray) -> np.ndarray:
    """Return 64 bits for each value."""
    import numpy as np
    import polars as pl

    if values.dtype == object:
        texts = all(isinstance(value, str) for value in values[:1])
        column = pl.Series(values.tolist(), dtype=pl.String if texts else pl.Binary)
        found: np.ndarray = column.hash(seed=0).to_numpy()
        return found
    if values.dtype.kind == "f":
        return (values.astype(np.float64) + 0.0).view(np.uint64)  # one zero
    return values.astype(np.int64).view(np.uint64)


def _mixed(words: np.ndarray) -> np.ndarray:
    """Spread each word over all 64 bits: the finalizer of SplitMix64."""
    import numpy as np

    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = words ^ (words >> np.uint64(31))
    return mixed
