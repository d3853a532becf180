"""What several data sets are made with."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SEED = 7
Array = np.ndarray[Any, Any]


def digits() -> tuple[Array, Array]:
    """Images float32 (rows, 8, 8) in 0..16, and labels int64 (rows,)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images.astype(np.float32), loaded.target.astype(np.int64)


def enlarged(images: Array, times: int) -> Array:
    """Each pixel becomes a square of so many by so many."""
    return images.repeat(times, axis=1).repeat(times, axis=2)


def coloured(images: Array) -> Array:
    """Digits as colour images, uint8 (rows, height, width, 3): a light colour on a dark one, both drawn."""
    rng = np.random.default_rng(SEED)
    ink = images[..., np.newaxis] / 16
    light = rng.uniform(200, 255, size=(len(ink), 1, 1, 3))
    dark = rng.uniform(0, 50, size=(len(ink), 1, 1, 3))
    pictures: Array = (ink * light + (1 - ink) * dark).astype(np.uint8)
    return pictures


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table in UTF-8; None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
