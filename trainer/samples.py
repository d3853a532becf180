"""Rows ready for a model, and the parts that a data set is shared out into."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer.arrays import ArrayFile
from trainer.resume import require_same

if TYPE_CHECKING:
    import numpy as np

    from trainer.fitted import Fitted
    from trainer.preprocessing import Preprocessing
    from trainer.profile import Anomaly
    from trainer.table import Chunk


@dataclass(frozen=True)
class Samples:
    """Rows: input name to (rows, ...), target name to (rows, ...), and how much each counts, (rows,).

    Where `unprepared` is given, the features are a request's columns, which it has still to make into inputs.
    All arrays are in memory, or all in files. `room_bytes` bounds what they may take once more, cast to what
    the model takes; None is no bound.
    """

    # Any: arrays, or files of them.
    features: Mapping[str, Any]
    targets: Mapping[str, Any]
    weights: Any = None
    unprepared: Preprocessing | None = None
    room_bytes: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one row of each input."""
        features = self.features if self.unprepared is None else self.take(slice(0)).ready().features
        return {name: tuple(array.shape[1:]) for name, array in features.items()}

    @property
    def stored(self) -> bool:
        """Whether the rows lie in files."""
        return any(isinstance(array, ArrayFile) for array in self.features.values())

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it is kept."""
        return sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in self._arrays)

    @property
    def held_bytes(self) -> int:
        """Bytes of all rows, which are in memory, with the texts and files that they hold."""
        objects = (each for array in self._arrays if array.dtype == object for each in array.flat)
        arrays_bytes: int = sum(array.nbytes for array in self._arrays)
        return arrays_bytes + sum(map(sys.getsizeof, objects))

    def take(self, rows: np.ndarray | slice) -> Samples:
        """Return these rows only, in memory."""
        return replace(
            self,
            features={name: array[rows] for name, array in self.features.items()},
            targets={name: array[rows] for name, array in self.targets.items()},
            weights=None if self.weights is None else self.weights[rows],
        )

    def whole_targets(self) -> dict[str, np.ndarray]:
        """Return all targets, in memory."""
        return {name: array[:] for name, array in self.targets.items()}

    def ready(self) -> Samples:
        """Return the rows, in memory and prepared."""
        rows = self.take(slice(None)) if self.stored else self
        if rows.unprepared is None:
            return rows
        return replace(rows, features=rows.unprepared.prepare(dict(rows.features)), unprepared=None)

    def named(self, names: Mapping[str, str]) -> Samples:
        """Return the rows under other names of the inputs."""
        if self.unprepared is not None:
            return replace(self, unprepared=self.unprepared.named(names))
        return replace(self, features={names.get(name, name): rows for name, rows in self.features.items()})

    @staticmethod
    def joined(pieces: Sequence[Samples]) -> Samples:
        """Return the rows of all pieces, which are in memory, in their order."""
        import numpy as np

        first = pieces[0]
        if len(pieces) == 1:
            return first
        weights = [piece.weights for piece in pieces if piece.weights is not None]
        return replace(
            first,
            features={
                name: np.concatenate([piece.features[name] for piece in pieces]) for name in first.features
            },
            targets={
                name: np.concatenate([piece.targets[name] for piece in pieces]) for name in first.targets
            },
            weights=np.concatenate(weights) if weights else None,
        )

    @property
    def _arrays(self) -> list[Any]:
        weights = [] if self.weights is None else [self.weights]
        return [*self.features.values(), *self.targets.values(), *weights]


@dataclass(frozen=True)
class Splits:
    """The parts of one data set, how they were prepared, and the digest of the file they come from.

    `fitted` is what was learnt of the columns, `requests` the first rows of each part by its name, as a
    request would send them. `buffer_bytes` says how much of rows on disk is shuffled together, None of rows
    in memory. `anomalies` are told before anything is trained.
    """

    train: Samples
    validation: Samples | None
    test: Samples | None
    digest: str = field(repr=False)
    preprocessing: Preprocessing | None = None
    fitted: Fitted | None = None
    requests: Mapping[str, Chunk] = field(default_factory=dict)
    buffer_bytes: int | None = None
    anomalies: tuple[Anomaly, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: enough to know them again."""
        return {"digest": self.digest, "rows": [len(part) if part else 0 for part in self._parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept the data a checkpoint was made with.

        Raises:
            ResumeError: these are other data, or they were split otherwise.
        """
        require_same("the data", state, self.state())

    def by_use(self) -> Sequence[tuple[str, Samples | None]]:
        """The parts by name, those first that say most of how a model does on new rows."""
        return (("test", self.test), ("validation", self.validation), ("train", self.train))

    def named(self, names: Mapping[str, str]) -> Splits:
        """Return the same under other names of the inputs."""
        return replace(
            self,
            train=self.train.named(names),
            validation=self.validation.named(names) if self.validation else None,
            test=self.test.named(names) if self.test else None,
            preprocessing=self.preprocessing.named(names) if self.preprocessing else None,
        )

    @property
    def _parts(self) -> Sequence[Samples | None]:
        return (self.train, self.validation, self.test)
