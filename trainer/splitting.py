"""Deciding which rows train, which validate and which are held out for the test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from trainer.cells import shown
from trainer.errors import InvalidDataError
from trainer.forms import Fault, Seed, SpecModel
from trainer.hashing import hashes, row_hashes
from trainer.table import Chunk, Table, check_columns

if TYPE_CHECKING:
    import numpy as np


class SplitBy(StrEnum):
    """How rows are shared out."""

    RANDOM = "random"
    """Any row may go anywhere."""
    STRATIFIED = "stratified"
    """Every class of the label keeps its share in each part."""
    HASH = "hash"
    """A row's content decides, so it never changes side when rows are added."""
    COLUMN = "column"
    """A column says it: the part of each row, or with fractions what stays together."""


def _two_or_three(fractions: tuple[float, ...]) -> tuple[float, ...]:
    if len(fractions) not in {2, 3}:
        raise ValueError("give train and validation, and test if you like: two or three fractions")
    if not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ValueError(f"must sum to 1, these sum to {sum(fractions):g}")
    return fractions


Fraction = Annotated[float, Field(gt=0, lt=1)]


PARTS = {"train": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2}
"""What a column may say of a row, in any case."""


class SplitOptions(SpecModel):
    """Parts for train, validation and, with a third fraction or where a column says so, test.

    With `by: column`, the values of that column are the names of the parts; or, with `fractions`, rows with
    the same value stay together.
    """

    by: SplitBy = SplitBy.RANDOM
    fractions: Annotated[tuple[Fraction, ...], AfterValidator(_two_or_three)] | None = None
    column: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    seed: Seed | None = None

    @classmethod
    def lacking(cls, value: Mapping[str, Any]) -> Iterable[Fault]:
        """Tell which of fractions and column is needed, or of no use."""
        by_column = value.get("by") == SplitBy.COLUMN
        if by_column and value.get("column") is None:
            yield Fault(("column",), "this field is required with by: column", "missing")
        if not by_column and value.get("column") is not None:
            yield Fault(("column",), "goes with by: column only")
        if not by_column and value.get("fractions") is None:
            yield Fault(("fractions",), "this field is required", "missing")


_SAID = {"": math.nan, "false": 0.0, "true": 1.0}


def assign(
    options: SplitOptions, table: Table, *, label: Sequence[str], content: Sequence[str], seed: int
) -> np.ndarray:
    """Return the part that each row belongs to, train (0), validation (1) or test (2): uint8 (rows,).

    `label` are the columns of the targets, `content` those that `hash` reads a row from.

    Raises:
        InvalidDataError: a part came out empty, the label can't be stratified, or a column names no part.
    """
    import numpy as np

    fractions = options.fractions or ()
    rng = np.random.default_rng(options.seed if options.seed is not None else seed)
    match options.by:
        case SplitBy.RANDOM:
            parts = _numbered(table.rows, _cut(rng.permutation(table.rows), fractions))
        case SplitBy.STRATIFIED:
            parts = _numbered(table.rows, _stratified(rng, _label(table, label), fractions))
        case SplitBy.HASH:
            parts = np.concatenate([_hashed(chunk, fractions) for chunk in table.chunks(content)])
        case SplitBy.COLUMN:
            assert options.column is not None
            parts = _by_column(table, options.column, fractions)
    told = f"by {list(fractions)}" if fractions else f"by column {options.column!r}"
    for number, name in enumerate(("train", "validation", "test")[: len(fractions) or 2]):
        if not (parts == number).any():
            raise InvalidDataError(
                f"the {name} part of the split is empty: {table.rows} rows {told}",
                remedy="Give more rows or a larger fraction." if fractions else "Give each part rows.",
            )
    return parts


def _by_column(table: Table, column: str, fractions: Sequence[float]) -> np.ndarray:
    """Read a column for the names of the parts, or for what stays together."""
    import numpy as np

    check_columns(table, [column])
    if fractions:
        return np.concatenate([_hashed(chunk, fractions) for chunk in table.chunks([column])])
    parts, done = np.empty(table.rows, np.uint8), 0
    for chunk in table.chunks([column]):
        for row, value in enumerate(chunk[column].tolist(), start=done):
            part = PARTS.get(value.strip().casefold()) if isinstance(value, str) else None
            if part is None:
                raise InvalidDataError(
                    f"row {row + 1} belongs to no part: {column!r} is {shown(value)}",
                    location={"row": row + 1, "column": column},
                    remedy=f"The column holds one of {', '.join(PARTS)}; or give fractions, and rows with "
                    "the same value stay together.",
                )
            parts[row] = part
        done += len(chunk[column])
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
    """Place each row by a hash of what it holds, read as a number from 0 to 1."""
    import numpy as np

    places = row_hashes(hashes(_words(values)) for values in chunk.values()) / 2.0**64
    return np.searchsorted(np.cumsum(fractions[:-1]), places, side="right").astype(np.uint8)


def _words(values: np.ndarray) -> np.ndarray:
    """Return 64 bits for each cell, which are the same in whatever dtype its column came to be read.

    A gap turns whole numbers into floats, a single text turns numbers and truth values into texts; so of each
    that says a number the bits of that as float64 count, of others those of a BLAKE2b digest.
    """
    import numpy as np

    if values.dtype != object:
        found = values.astype(np.float64) + 0.0  # one zero
        found[np.isnan(found)] = np.nan  # and one NaN
        return found.view(np.uint64)
    cells = values.reshape(-1).tolist()
    said = [_number(cell) for cell in cells]
    words = _words(np.array([0.0 if number is None else number for number in said]))
    for place, number in enumerate(said):
        if number is None:
            words[place] = _digest(cells[place])
    return words.reshape(values.shape)


def _number(cell: str | bytes) -> float | None:
    """Return the number or truth value that a text says, NaN if it is empty, None if it says no such."""
    if isinstance(cell, bytes):
        return None
    try:
        return float(cell)
    except ValueError:
        return _SAID.get(cell.strip().casefold())


def _digest(cell: str | bytes) -> int:
    content = cell if isinstance(cell, bytes) else cell.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
