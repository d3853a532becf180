"""Deciding which rows train, which validate and which are held out for the test."""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from trainer.errors import InvalidDataError
from trainer.forms import Seed, SpecModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class SplitBy(StrEnum):
    """How rows are shared out."""

    RANDOM = "random"
    """Any row may go anywhere."""
    STRATIFIED = "stratified"
    """Every class of the label keeps its share in each part."""
    HASH = "hash"
    """A row's content decides, so it never changes side when rows are added."""


def _two_or_three(fractions: tuple[float, ...]) -> tuple[float, ...]:
    if len(fractions) not in {2, 3}:
        raise ValueError("give train and validation, and test if you like: two or three fractions")
    if not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ValueError(f"must sum to 1, these sum to {sum(fractions):g}")
    return fractions


Fraction = Annotated[float, Field(gt=0, lt=1)]


class SplitOptions(SpecModel):
    """Parts for train, validation and, with a third fraction, test."""

    by: SplitBy = SplitBy.RANDOM
    fractions: Annotated[tuple[Fraction, ...], AfterValidator(_two_or_three)]
    seed: Seed | None = None


def split(
    options: SplitOptions, *, rows: int, label: np.ndarray | None, content: Sequence[np.ndarray], seed: int
) -> list[np.ndarray]:
    """Return one ascending array of row numbers (from 0) a fraction.

    `label` is of shape (rows,) and needed for `stratified`; `content` are the arrays `hash` reads a row from.

    Raises:
        InvalidDataError: a part came out empty, or the label can't be stratified.
    """
    import numpy as np

    rng = np.random.default_rng(options.seed if options.seed is not None else seed)
    match options.by:
        case SplitBy.RANDOM:
            parts = _cut(rng.permutation(rows), options.fractions)
        case SplitBy.STRATIFIED:
            parts = _stratified(rng, label, options.fractions)
        case SplitBy.HASH:
            parts = _hashed(content, rows, options.fractions)
    for name, part in zip(("train", "validation", "test"), parts, strict=False):
        if len(part) == 0:
            raise InvalidDataError(
                f"the {name} part of the split is empty: {rows} rows by {list(options.fractions)}",
                remedy="Give more rows or a larger fraction.",
            )
    return [np.sort(part) for part in parts]


def _cut(order: np.ndarray, fractions: Sequence[float]) -> list[np.ndarray]:
    import numpy as np

    ends = np.rint(np.cumsum(fractions[:-1]) * len(order)).astype(np.int64)
    return list(np.split(order, ends))


def _stratified(
    rng: np.random.Generator, label: np.ndarray | None, fractions: Sequence[float]
) -> list[np.ndarray]:
    import numpy as np

    if label is None or label.ndim != 1:
        raise InvalidDataError(
            "a stratified split needs a single label of one value a row",
            remedy='Use "by": "random" or "hash".',
        )
    classes, members = np.unique(label, return_inverse=True)
    if label.dtype.kind == "f" and len(classes) > len(label) // 2:
        raise InvalidDataError(
            f"a stratified split needs classes, but the label has {len(classes)} different values "
            f"in {len(label)} rows",
            remedy='Use "by": "random" or "hash".',
        )
    cuts = [_cut(rng.permutation(np.flatnonzero(members == i)), fractions) for i in range(len(classes))]
    return [np.concatenate(parts) for parts in zip(*cuts, strict=True)]


def _hashed(content: Sequence[np.ndarray], rows: int, fractions: Sequence[float]) -> list[np.ndarray]:
    """Place each row by the first 8 bytes of its BLAKE2b digest, read as a number in [0, 1)."""
    import numpy as np

    flat = [np.ascontiguousarray(array).reshape(rows, -1) for array in content]
    places = np.empty(rows)
    for row in range(rows):
        digest = hashlib.blake2b(digest_size=8)
        for array in flat:
            digest.update(array[row].tobytes())
        places[row] = int.from_bytes(digest.digest(), "big") / 2**64
    sides = np.searchsorted(np.cumsum(fractions[:-1]), places, side="right")
    return [np.flatnonzero(sides == i) for i in range(len(fractions))]
