"""Rows ready for a model, in memory, and the parts that a data set is shared out into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.resume import require_same

if TYPE_CHECKING:
    import numpy as np

    from trainer.preprocessing import Preprocessing


@dataclass(frozen=True)
class Samples:
    """Rows: input name to (rows, ...), target name to (rows, ...), and how much each counts, (rows,)."""

    features: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one row of each input."""
        return {name: array.shape[1:] for name, array in self.features.items()}

    def take(self, rows: np.ndarray | slice) -> Samples:
        """Return these rows only."""
        return Samples(
            {name: array[rows] for name, array in self.features.items()},
            {name: array[rows] for name, array in self.targets.items()},
            None if self.weights is None else self.weights[rows],
        )

    @staticmethod
    def joined(pieces: Sequence[Samples]) -> Samples:
        """Return the rows of all pieces, in their order."""
        import numpy as np

        if len(pieces) == 1:
            return pieces[0]
        first = pieces[0]
        return Samples(
            {name: np.concatenate([piece.features[name] for piece in pieces]) for name in first.features},
            {name: np.concatenate([piece.targets[name] for piece in pieces]) for name in first.targets},
            None if first.weights is None else np.concatenate([piece.weights for piece in pieces]),
        )


@dataclass(frozen=True)
class Splits:
    """The parts of one data set, how they were prepared, and the digest of the file they come from."""

    train: Samples
    validation: Samples | None
    test: Samples | None
    digest: str = field(repr=False)
    preprocessing: Preprocessing | None = None

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

    @property
    def _parts(self) -> Sequence[Samples | None]:
        return (self.train, self.validation, self.test)
