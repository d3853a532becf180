"""What training tells while it runs, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Interruption(StrEnum):
    """Why training should end before its time."""

    CANCEL = "cancel"
    """Nobody wants the result any more."""
    STOP = "stop"
    """The worker leaves; another attempt will go on from the checkpoint."""


@dataclass(frozen=True)
class Progress:
    """Where training is: the running epoch (from 1), the batches done in it, and its metrics so far."""

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    metrics: Mapping[str, float]

    @property
    def fraction(self) -> float:
        """The share of all batches that is done, 0 to 1."""
        return ((self.epoch - 1) * self.steps_per_epoch + self.step) / (self.epochs * self.steps_per_epoch)


@dataclass(frozen=True)
class EpochEnd:
    """One point of the learning curves: the epoch that ended (from 1), all batches done so far, its metrics.

    A metric that is not a finite number is left out.
    """

    epoch: int
    step: int
    metrics: Mapping[str, float]


class Observer(Protocol):
    """Implemented by whoever runs `fit`; every call comes from fit's own thread and should return at once."""

    def phase(self, name: str) -> None:
        """Training entered a phase: loading_data, training."""

    def note(self, message: str) -> None:
        """Something the job's owner should know: where a resumed run goes on, a checkpoint passed over."""

    def progress(self, progress: Progress) -> None:
        """Training went on; at most once a second within an epoch, and at each epoch's end."""

    def epoch(self, epoch: EpochEnd) -> None:
        """An epoch ended and its checkpoint is written; a resumed run tells those before it again."""

    def pipeline(self, diagnosis: Mapping[str, Any]) -> None:
        """How well the data pipeline keeps up: JSON without NaN, at least `verdict` and a list `advice`.

        The newest replaces those before it.
        """

    def interruption(self) -> Interruption | None:
        """Say whether training should end now; asked after every batch."""
