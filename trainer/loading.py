"""From a file to the rows of each part, ready for a model: opened, shared out, fitted, prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from trainer.column import State
from trainer.errors import InvalidDataError
from trainer.preprocessing import Column, Preprocessing
from trainer.samples import Samples, Splits
from trainer.source import DataFile, DataOptions, open_table
from trainer.splitting import assign
from trainer.table import Chunk, Table, check_columns
from trainer.targets import Targets, weights_of

if TYPE_CHECKING:
    import numpy as np

TRAIN, VALIDATION, TEST = range(3)


def load(data: DataOptions, file: DataFile, seed: int, fitted: Mapping[str, State] | None = None) -> Splits:
    """Read the data and share its rows out; `seed` decides where the split names none.

    `fitted` is what an earlier run learnt of the columns, which is then not learnt anew.

    Raises:
        DataUnreachableError: the file can't be read.
        InvalidDataError: its content contradicts the options; `location` tells where, if it is one place.
    """
    table = open_table(data, file)
    weight = data.sample_weight
    features = [name for columns in data.inputs.values() for name in columns]
    labels = [name for columns in data.targets.values() for name in columns]
    names = list(dict.fromkeys([*features, *labels, *data.columns, *([weight] if weight else [])]))
    check_columns(table, names)
    idle = [
        Column(name, table.fields[name], each)
        for name, each in data.columns.items()
        if name not in {*features, *labels}
    ]
    preprocessing, targets = Preprocessing(data, table.fields, fitted), Targets(data, table.fields)
    parts = _parts(data, table, features, labels, seed)
    if preprocessing.needs_fitting:
        for first_row, chunk in _numbered(table, features):
            here = parts[first_row - 1 : first_row - 1 + _height(chunk)]
            wire = preprocessing.read(chunk, first_row)
            preprocessing.see({name: values[here == TRAIN] for name, values in wire.items()})
    preprocessing.settle()
    gathered = [_Gathered() for _ in range(3)]
    for first_row, chunk in _numbered(table, names):
        here = parts[first_row - 1 : first_row - 1 + _height(chunk)]
        for column in idle:  # of what the spec says, all is checked
            column.read(chunk[column.name], first_row)
        ready = Samples(
            preprocessing.prepare(preprocessing.read(chunk, first_row)),
            targets.read(chunk, first_row),
            weights_of(weight, chunk[weight], first_row) if weight else None,
        )
        for number, part in enumerate(gathered):
            part.add(ready.take(here == number))
    train, validation, test = (each.whole() for each in gathered)
    assert train is not None
    return Splits(train, validation, test, file.digest, preprocessing)


def _parts(data: DataOptions, table: Table, features: list[str], labels: list[str], seed: int) -> np.ndarray:
    """Return the part that each row belongs to, uint8 (rows,)."""
    import numpy as np

    if data.split is not None:
        return assign(data.split, table, label=labels, content=[*features, *labels], seed=seed)
    parts = np.zeros(table.rows, np.uint8)
    if data.validation_split is not None:
        # Keras's rule: the last part, before any shuffling.
        first = int(table.rows * (1 - data.validation_split))
        if first in {0, table.rows}:
            raise InvalidDataError(
                f"validation_split {data.validation_split} of {table.rows} rows leaves a part empty"
            )
        parts[first:] = VALIDATION
    return parts


def _numbered(table: Table, names: list[str]) -> Iterator[tuple[int, Chunk]]:
    """Yield the chunks with the number of their first row, from 1."""
    first_row = 1
    for chunk in table.chunks(names):
        yield first_row, chunk
        first_row += _height(chunk)


def _height(chunk: Chunk) -> int:
    return len(next(iter(chunk.values())))


class _Gathered:
    """The rows of one part so far."""

    def __init__(self) -> None:
        self._pieces: list[Samples] = []

    def add(self, piece: Samples) -> None:
        self._pieces.append(piece)

    def whole(self) -> Samples | None:
        samples = Samples.joined(self._pieces)
        return samples if len(samples) else None
