"""Where prepared rows are kept while a model is trained on them: in memory, or in files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.arrays import ArrayFile
from trainer.samples import Samples

if TYPE_CHECKING:
    import numpy as np

SHARE_OF_MEMORY = 1 / 4
"""Of the memory that is free, what rows may fill: while they become tensors they are there twice."""


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
        self.put(piece, len(piece))

    def put(self, piece: Samples, rows: int) -> None:
        """Copy what a piece of so many rows has."""
        if self._whole is None:
            self._whole = _empty(piece, self._rows)
        place = slice(self._done, self._done + rows)
        for kept, given in _pairs(self._whole, piece):
            kept[place] = given
        self._done = place.stop

    def whole(self) -> Samples | None:
        """Give the arrays."""
        return self._whole


class OnDisk:
    """Keeps the features in one file an input, row after row; targets and weights stay in memory."""

    def __init__(self, rows: int, folder: Path) -> None:
        """Begin with an empty folder."""
        self._rows, self._folder = rows, folder
        self._rest = InMemory(rows)
        self._files: dict[str, ArrayFile] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def add(self, piece: Samples) -> None:
        """Append the rows to the files."""
        for number, (name, array) in enumerate(piece.features.items()):
            if name not in self._files:
                shape = (self._rows, *array.shape[1:])
                self._files[name] = ArrayFile(self._folder / f"{number}.rows", array.dtype, shape)
            with self._files[name].path.open("ab") as file:
                array.tofile(file)
        self._rest.put(replace(piece, features={}), len(piece))

    def whole(self) -> Samples | None:
        """Give the rows, their features in files."""
        rest = self._rest.whole()
        return None if rest is None else replace(rest, features=self._files)


def keeper(rows: int, folder: Path | None) -> Keeper:
    """Keep so many rows: in this folder, or in memory without one."""
    return InMemory(rows) if folder is None else OnDisk(rows, folder)


def fits(row_bytes: int, rows: int, memory_bytes: int | None) -> bool:
    """Say whether rows can be kept in memory of which so much is free; None is no bound."""
    return memory_bytes is None or row_bytes * rows <= memory_bytes * SHARE_OF_MEMORY


def _empty(like: Samples, rows: int) -> Samples:
    import numpy as np

    def made(array: np.ndarray) -> np.ndarray:
        return np.empty((rows, *array.shape[1:]), array.dtype)

    return replace(
        like,
        features={name: made(array) for name, array in like.features.items()},
        targets={name: made(array) for name, array in like.targets.items()},
        weights=None if like.weights is None else made(like.weights),
    )


def _pairs(whole: Samples, piece: Samples) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [(kept, piece.features[name]) for name, kept in whole.features.items()]
    pairs += [(kept, piece.targets[name]) for name, kept in whole.targets.items()]
    if whole.weights is not None and piece.weights is not None:
        pairs.append((whole.weights, piece.weights))
    return pairs
