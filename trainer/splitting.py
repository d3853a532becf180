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

    from trainer.table import Chunk, Table


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


def assign(
    options: SplitOptions, table: Table, *, label: Sequence[str], content: Sequence[str], seed: int
) -> np.ndarray:
    """Return the part that each row belongs to, counted from 0 as the fractions are: uint8 (rows,).

    `label` are the columns of the targets, `content` those that `hash` reads a row from.

    Raises:
        InvalidDataError: a part came out empty, or the label can't be stratified.
    """
    import numpy as np

    rng = np.random.default_rng(options.seed if options.seed is not None else seed)
    match options.by:
        case SplitBy.RANDOM:
            parts = _numbered(table.rows, _cut(rng.permutation(table.rows), options.fractions))
        case SplitBy.STRATIFIED:
            parts = _numbered(table.rows, _stratified(rng, _label(table, label), options.fractions))
        case SplitBy.HASH:
            parts = np.concatenate([_hashed(chunk, options.fractions) for chunk in table.chunks(content)])
    for number, name in enumerate(("train", "validation", "test")[: len(options.fractions)]):
        if not (parts == number).any():
            raise InvalidDataError(
                f"the {name} part of the split is empty: {table.rows} rows by {list(options.fractions)}",
                remedy="Give more rows or a larger fraction.",
            )
    return parts


def _numbered(rows: int, members: Sequence[np.ndarray]) -> np.ndarray:
    import numpy as np

    parts = np.zeros(rows, np.uint8)
    for number, each in enumerate(members):
        parts[each] = number
    return parts


def _label(table: Table, names: Sequence[str]) -> np.ndarray | None:
    import numpy as np

    if len(names) != 1:
        return None
    return np.concatenate([chunk[names[0]] for chunk in table.chunks(names)])


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


def _hashed(chunk: Chunk, fractions: Sequence[float]) -> np.ndarray:
    """Place each row by the first 8 bytes of its BLAKE2b digest, read as a number in [0, 1)."""
    import numpy as np

    columns = [_bytes(values) for values in chunk.values()]
    places = np.empty(len(columns[0]))
    for row, cells in enumerate(zip(*columns, strict=True)):
        digest = hashlib.blake2b(digest_size=8)
        for cell in cells:
            digest.update(cell)
        places[row] = int.from_bytes(digest.digest(), "big") / 2**64
    return np.searchsorted(np.cumsum(fractions[:-1]), places, side="right").astype(np.uint8)


def _bytes(values: np.ndarray) -> Sequence[bytes]:
    """Return what each row is told apart by; a text ends with a byte that UTF-8 doesn't have."""
    import numpy as np

    if values.dtype == object:
        return [(each if isinstance(each, bytes) else each.encode()) + b"\xff" for each in values]
    rows: np.ndarray = np.ascontiguousarray(values).reshape(len(values), -1)
    return [row.tobytes() for row in rows]
