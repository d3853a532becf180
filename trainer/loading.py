"""From a file to the rows of each part, ready for a model: opened, shared out, fitted, prepared, kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.anomalies import anomalies
from trainer.errors import InvalidDataError
from trainer.fitted import Fitted, Kept
from trainer.joint import JointTable
from trainer.keeping import SHARE_OF_MEMORY, fits, keeper
from trainer.preprocessing import Column, Preprocessing
from trainer.profile import Anomaly
from trainer.samples import Samples, Splits
from trainer.source import DataFile, DataOptions, digest_of, further_tables, open_table
from trainer.splitting import assign
from trainer.table import CHUNK_ROWS, Chunk
from trainer.targets import Targets, weights_of

if TYPE_CHECKING:
    import numpy as np

PIECE_BYTES = 16 << 20
"""So many bytes of rows at most are prepared together; TensorFlow takes some four times as much meanwhile."""
BUFFER_BYTES = 256 << 20
"""Of rows on disk, so many at most are shuffled together."""
REQUEST_ROWS = 1024
"""Of each part, as many rows are kept as a request would send them: what is served is proven with them."""
_FITTED = "fitted.json"
PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


def load(
    data: DataOptions,
    file: DataFile | None,
    seed: int,
    *,
    folder: Path | None = None,
    published: Fitted | None = None,
    memory_bytes: int | None = None,
) -> Splits:
    """Read the data and share its rows out; `seed` decides where the split names none.

    There is no `file` where the data section holds its rows. Rows that don't fit into `memory_bytes` are kept
    in `folder`, and so is what was fitted, for a run that goes on. `published` is what a version was fitted
    with, for those who use or train it further.

    Raises:
        DataUnreachableError: the file can't be read.
        InvalidDataError: its content contradicts the options; `location` tells where, if it is one place.
    """
    table = JointTable(open_table(data, file), further_tables(data, file))
    remembered = None if folder is None else Fitted.read(folder / _FITTED)
    with _naming_the_set(table):
        loading = _Loading(data, table, seed)
        found = () if remembered is not None else loading.anomalies()  # a run that goes on has told of them
        loading.fit(remembered or published)
        if remembered is None:
            remembered = loading.fitted(memory_bytes, may_write=folder is not None)
            if folder is not None:
                remembered.write(folder / _FITTED)
        train, validation, test = loading.parts(remembered.kept, folder, memory_bytes)
    assert train is not None
    return Splits(
        train,
        validation,
        test,
        digest_of(data, file),
        loading.preprocessing,
        remembered,
        loading.requests,
        remembered.buffer_bytes if remembered.kept == "disk" else None,
        found,
    )


class _Loading:
    """The passes over a table: one to learn from it, if there is something to learn, one to prepare it."""

    def __init__(self, data: DataOptions, table: JointTable, seed: int) -> None:
        self._data, self._table = data, table
        self._features = list(dict.fromkeys(name for columns in data.inputs.values() for name in columns))
        self._labels = list(dict.fromkeys(name for columns in data.targets.values() for name in columns))
        weight = [data.sample_weight] if data.sample_weight else []
        self._names = list(dict.fromkeys([*self._features, *self._labels, *data.columns, *weight]))
        table.agree(self._names)
        self.requests: dict[str, Chunk] = {}
        self._parts = _shared_out(data, table, self._features, self._labels, seed)

    def anomalies(self) -> tuple[Anomaly, ...]:
        """Tell what looks wrong; a row of a further set by its number there."""
        return tuple(map(self._placed, anomalies(self._data, self._table, self._parts)))

    def _placed(self, anomaly: Anomaly) -> Anomaly:
        row = anomaly.row
        if row is None:
            return anomaly
        for part, height in self._table.heights():
            if row <= height:
                return anomaly.model_copy(update={"row": row, "part": part})
            row -= height
        return anomaly

    def fit(self, known: Fitted | None) -> None:
        """Learn from the training rows, or take what is known."""
        fields = self._table.fields
        states, classes = None, None
        if known is not None:
            columns = known.complete(self._data.columns, self._features, self._labels)
            self._data = self._data.model_copy(update={"columns": columns})
            states, classes = known.learnt(self._features, self._labels)
        data = self._data
        self.preprocessing = Preprocessing(data.inputs, data.columns, fields, states)
        self.targets = Targets(data.targets, data.columns, fields, classes)
        if self.preprocessing.needs_fitting or self.targets.needs_fitting:
            for first_row, chunk, parts in self._chunks([*self._features, *self._labels]):
                wire = self.preprocessing.read(chunk, first_row)
                self.preprocessing.see({name: values[parts == TRAIN] for name, values in wire.items()})
                if not data.further or (parts == TRAIN).all():  # a further set teaches nothing
                    self.targets.see(chunk, first_row)
        self.preprocessing.settle()
        self.targets.settle()

    def fitted(self, memory_bytes: int | None, *, may_write: bool) -> Fitted:
        """Say what was learnt, and choose where the rows are kept."""
        assert self.preprocessing.fitted is not None
        asked, rows = self._data.pipeline.cache, self._table.rows
        kept: Kept = "memory"
        if asked is False and self.preprocessing.prepares and fits(self._cells_bytes(), rows, memory_bytes):
            kept = "unprepared"
        elif may_write and (
            asked == "disk" or (asked != "memory" and not fits(self._ready_bytes(), rows, memory_bytes))
        ):
            kept = "disk"
        buffer_bytes = BUFFER_BYTES if memory_bytes is None else min(BUFFER_BYTES, memory_bytes // 16)
        return Fitted(
            {name: options.model_dump(mode="json") for name, options in self._data.columns.items()},
            self.preprocessing.fitted,
            self.targets.classes,
            kept,
            buffer_bytes,
        )

    def parts(self, kept: Kept, folder: Path | None, memory_bytes: int | None) -> list[Samples | None]:
        """Prepare all rows, and keep each part, with its share of the room that all may take once more."""
        import numpy as np

        rows = [int(np.count_nonzero(self._parts == number)) for number in range(len(PARTS))]
        where = folder if kept == "disk" else None
        keepers = [keeper(count, where and where / part) for part, count in zip(PARTS, rows, strict=True)]
        most_rows = max(1, PIECE_BYTES // max(1, self._ready_bytes()))
        for first_row, chunk, here in self._chunks(self._names, most_rows):
            wire = self.preprocessing.read(chunk, first_row)
            ready = self._ready(chunk, wire, first_row, prepare=kept != "unprepared")
            for number, each in enumerate(keepers):
                if (here == number).any():
                    self._keep_requests(PARTS[number], wire, here == number)
                    each.add(ready if (here == number).all() else ready.take(here == number))
        rooms = [
            None if memory_bytes is None else int(memory_bytes * SHARE_OF_MEMORY * count / self._table.rows)
            for count in rows
        ]
        wholes = [each.whole() for each in keepers]
        return [whole and replace(whole, room_bytes=room) for whole, room in zip(wholes, rooms, strict=True)]

    def _keep_requests(self, part: str, wire: Chunk, rows: np.ndarray) -> None:
        """Keep the first rows of a part in the form of a request, where that is another than the model's."""
        import numpy as np

        kept = self.requests.get(part, {})
        there = len(next(iter(kept.values()))) if kept else 0
        if self.preprocessing.prepares and there < REQUEST_ROWS:
            some = np.flatnonzero(rows)[: REQUEST_ROWS - there]
            pieces = {name: [kept[name]] if kept else [] for name in wire}
            self.requests[part] = {
                name: np.concatenate([*pieces[name], values[some]]) for name, values in wire.items()
            }

    def _ready(self, chunk: Chunk, wire: Chunk, first_row: int, *, prepare: bool) -> Samples:
        for name, options in self._data.columns.items():  # of what the spec says, all is checked
            if name not in self.preprocessing.columns and name not in self.targets.columns:
                Column(name, self._table.fields[name], options).read(chunk[name], first_row)
        weight = self._data.sample_weight
        return Samples(
            self.preprocessing.prepare(wire, first_row) if prepare else wire,
            self.targets.read(chunk, first_row),
            weights_of(weight, chunk[weight], first_row) if weight else None,
            None if prepare else self.preprocessing,
        )

    def _ready_bytes(self) -> int:
        """Return what a row takes once it is prepared."""
        import numpy as np

        no_rows = {
            name: np.empty((0, *field.shape), field.dtype if field.is_number else object)
            for name, field in self._table.fields.items()
            if name in self._names
        }
        wire = self.preprocessing.read(no_rows, 1)
        return self._ready(no_rows, wire, 1, prepare=True).row_bytes

    def _cells_bytes(self) -> int:
        """Return what a row takes in memory as it is, by those of the first chunk."""
        first_row, chunk, _ = next(self._chunks(self._names))
        wire = self.preprocessing.read(chunk, first_row)
        rows = self._ready(chunk, wire, first_row, prepare=False)
        return rows.held_bytes // len(rows)

    def _chunks(
        self, names: list[str], most_rows: int = CHUNK_ROWS
    ) -> Iterator[tuple[int, Chunk, np.ndarray]]:
        """Yield the chunks, each with the number of its first row, from 1, and the parts of its rows."""
        done = 0
        for first_row, chunk in self._table.numbered(names):
            height = len(next(iter(chunk.values())))
            parts = self._parts[done : done + height]
            for start in range(0, height, most_rows):
                rows = slice(start, start + most_rows)
                yield first_row + start, {name: chunk[name][rows] for name in chunk}, parts[rows]
            done += height


@contextmanager
def _naming_the_set(table: JointTable) -> Iterator[None]:
    """Let an error in a further set say in which."""
    try:
        yield
    except InvalidDataError as error:
        if table.reading is None:
            raise
        raise InvalidDataError(
            f"in the {table.reading} set: {error.detail}",
            remedy=error.remedy,
            location={**(error.location or {}), "pointer": f"/data/{table.reading}/uri"},
        ) from error


def _shared_out(
    data: DataOptions, table: JointTable, features: list[str], labels: list[str], seed: int
) -> np.ndarray:
    """Return the part that each row belongs to, uint8 (rows,)."""
    import numpy as np

    if data.further:
        which = [PARTS.index(part or "train") for part, _ in table.heights()]
        return np.repeat(np.array(which, np.uint8), [rows for _, rows in table.heights()])
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
