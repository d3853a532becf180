"""Where prepared rows are kept while a model is trained on them: in memory, or in files."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.arrays import ArrayFile
from trainer.samples import Samples

if TYPE_CHECKING:
    import numpy as np

SHARE_OF_MEMORY = 1 / 4
"""Of the memory that is free, what rows may fill: as tensors they are there twice, cast a third time."""


class Keeper(Protocol):
    """Takes the rows of one part, piece by piece, and gives them back as one."""

    def add(self, piece: Samples) -> None:
        """Take some rows; the pieces of a part come in its order."""

    def whole(self) -> Samples | None:
        """Give all rows; None where there was none."""


class InMemory:
    """Keeps rows in arrays that have their final size from the beginning."""

    def __init__(self, rows: int) -> None:
        self._rows, self._done = rows, 0
        self._whole: Samples | None = None

    def add(self, piece: Samples) -> None:
        """Copy the rows to their place."""
        if self._whole is None:
            self._whole = _like(piece, self._empty)
        place = slice(self._done, self._done + len(piece))
        for kept, given in _pairs(self._whole, piece):
            kept[place] = given
        self._done = place.stop

    def whole(self) -> Samples | None:
        """Give the arrays."""
        return self._whole

    def _empty(self, like: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.empty((self._rows, *like.shape[1:]), like.dtype)


class OnDisk:
    """Keeps rows in one file an input, target or weight, row after row."""

    def __init__(self, rows: int, folder: Path) -> None:
        """Begin with an empty folder."""
        self._rows, self._folder = rows, folder
        self._whole: Samples | None = None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, piece: Samples) -> None:
        """Append the rows to the files."""
        if self._whole is None:
            numbers = itertools.count()

            def file(array: np.ndarray) -> ArrayFile:
                shape = (self._rows, *array.shape[1:])
                return ArrayFile(self._folder / f"{next(numbers)}.rows", array.dtype, shape)

            self._whole = _like(piece, file)
        for kept, given in _pairs(self._whole, piece):
            with kept.path.open("ab") as into:
                given.tofile(into)

    def whole(self) -> Samples | None:
        """Give the files."""
        return self._whole


def keeper(rows: int, folder: Path | None) -> Keeper:
    """Keep so many rows: in this folder, or in memory without one."""
    return InMemory(rows) if folder is None else OnDisk(rows, folder)


@contextmanager
def place_of(workdir: Path | None) -> Iterator[Path | None]:
    """Give a folder for rows that are kept no longer than they are read."""
    if workdir is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="rows-", dir=workdir) as folder:
        yield Path(folder)


def fits(row_bytes: int, rows: int, memory_bytes: int | None) -> bool:
    """Say whether rows can be kept in memory of which so much is free; None is no bound."""
    return memory_bytes is None or row_bytes * rows <= memory_bytes * SHARE_OF_MEMORY


def _like(piece: Samples, made: Callable[[np.ndarray], Any]) -> Samples:
    """Return rows of the form of these, each array made anew."""
    return replace(
        piece,
        features={name: made(array) for name, array in piece.features.items()},
        targets={name: made(array) for name, array in piece.targets.items()},
        weights=None if piece.weights is None else made(piece.weights),
    )


def _pairs(whole: Samples, piece: Samples) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield each array of the whole with that of the piece."""
    yield from ((kept, piece.features[name]) for name, kept in whole.features.items())
    yield from ((kept, piece.targets[name]) for name, kept in whole.targets.items())
    if whole.weights is not None and piece.weights is not None:
        yield whole.weights, piece.weights
