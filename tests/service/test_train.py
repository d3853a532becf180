"""What the child of a training job passes on of what the trainer tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.jobs import EventKind
from service.kinds.train import _Observer
from trainer.observer import Progress

SLOW = {"verdict": "input_bound", "advice": ["cache the rows"]}


class Kept:
    """A channel that keeps what it is told."""

    stop_asked = cancel_asked = False

    def __init__(self) -> None:
        self.told: list[tuple[EventKind, Mapping[str, Any]]] = []

    def tell(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        self.told.append((kind, data))


def test_a_diagnosis_goes_out_with_the_progress_so_far() -> None:
    channel = Kept()
    observer = _Observer(channel)
    observer.pipeline(SLOW)
    observer.progress(Progress(epoch=1, epochs=2, step=3, steps_per_epoch=4, metrics={}))
    observer.pipeline(SLOW)
    assert {kind for kind, _ in channel.told} == {EventKind.PROGRESS}
    first, progress, second = (data for _, data in channel.told)
    assert first == {"pipeline": SLOW}
    assert second == {**progress, "pipeline": SLOW}
