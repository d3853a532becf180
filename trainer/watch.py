"""The callback that watches `fit`: tells the observer, writes checkpoints, and ends training when asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.callback import CallbackState, Keeper
from trainer.diagnosis import Meter
from trainer.errors import Cancelled, Interrupted, NanLossError
from trainer.observer import EpochEnd, Interruption, Observer, Progress
from trainer.pace import Pace
from trainer.resume import Checkpoint, Checkpoints, numbered
from trainer.spec import CheckpointOptions
from trainer.variables import arrays_of, optimizers_of, put_back, variables_of

if TYPE_CHECKING:
    import keras

PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True)
class Kept:
    """A callback of the spec or of a plugin, and what knows how to keep its state."""

    module: Keeper
    callback: keras.callbacks.Callback


class Watch:
    """What is known of a training run between its epochs; `epoch` counts those that ended.

    `origin` is what every checkpoint of the run says of data, pipeline and environment. `ended` is the
    checkpoint of the epoch that ended last, if `keep_end_of` asked for it.
    """

    def __init__(
        self,
        *,
        epochs: int,
        steps_per_epoch: int,
        kept: Sequence[Kept],
        checkpoints: Checkpoints,
        schedule: CheckpointOptions,
        observer: Observer,
        origin: Mapping[str, Any],
        pace: Pace,
        meter: Meter,
    ) -> None:
        self.epoch = 0
        self.stopped = False
        self.ended: Checkpoint | None = None
        self.history: dict[str, list[float]] = {}
        self._epochs, self._steps, self._kept = epochs, steps_per_epoch, kept
        self._checkpoints, self._schedule = checkpoints, schedule
        self._observer, self._origin = observer, origin
        self._pace, self._meter = pace, meter
        self._keep_end_of = 0
        self._restored: Checkpoint | None = None
        # Batches of the running epoch that an earlier attempt did.
        self._first_step = 0
        self._told_at = -math.inf
        self._saved_step, self._saved_at = 0, time.monotonic()

    def keep_end_of(self, epoch: int) -> None:
        """Keep the checkpoint of this epoch's end (from 1): another fit goes on from it."""
        self._keep_end_of = epoch

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: the counts now, the callbacks' states once training begins."""
        self.epoch = checkpoint.epoch
        self.stopped = checkpoint.values["stopped"]
        self.history = {name: list(values) for name, values in checkpoint.values["history"].items()}
        self._restored, self._first_step = checkpoint, checkpoint.step
        self._pace.restore(checkpoint.values["pace"])

    def tell_where(self) -> None:
        """Tell where a restored run goes on."""
        if self.epoch == self._epochs or self.stopped:
            self._observer.note(f"goes on after epoch {self.epoch}, the last one")
        else:
            self._observer.note(
                f"goes on from epoch {self.epoch + 1}, step {self._first_step} of {self._steps}"
            )

    def tell_again(self) -> None:
        """Tell every epoch of a restored run once more.

        An attempt that died between its checkpoint and its word left an epoch untold; who keeps the curves
        knows the others by (epoch, step).
        """
        for epoch in range(1, self.epoch + 1):
            logs = {name: values[epoch - 1] for name, values in self.history.items() if len(values) >= epoch}
            self._observer.epoch(EpochEnd(epoch, epoch * self._steps, metrics_of(logs)))

    def tell_pipeline(self, *, last: bool = False) -> None:
        """Tell whether the input or the device is the limit, where that is known and wasn't told just now."""
        diagnosis = self._meter.diagnosis(last=last)
        if diagnosis is not None:
            self._observer.pipeline(diagnosis)

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) with the lowest val_loss, or loss without validation rows."""
        losses = self.history.get("val_loss") or self.history.get("loss") or [0.0]
        return 1 + min(range(len(losses)), key=losses.__getitem__)

    def checkpoint(
        self, *, arrays: Mapping[str, Any], values: Mapping[str, Any], step: int = 0, complete: bool = False
    ) -> Checkpoint:
        """Make a checkpoint of what is known now, with further arrays and values."""
        return Checkpoint(
            epoch=self.epoch,
            step=step,
            complete=complete,
            values={
                "stopped": self.stopped,
                "history": self.history,
                "pace": self._pace.state(),
                **self._origin,
                **values,
            },
            arrays=arrays,
        )

    def callback(self) -> keras.callbacks.Callback:
        """Return the Keras callback; it must be the last, so that it sees what the others decided."""
        import keras

        watch = self

        class Watcher(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                watch._training_begins()
                watch._meter.attach(self.model)

            def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                if batch == 0:
                    watch._restore_metrics(self.model)
                watch._meter.begin(batch)
                watch._pace.stopwatch.begin()

            def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
                watch._pace.stopwatch.end()
                watch._batch_ended(batch + 1, logs or {}, self.model)

            def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                watch._refuse_cancelled()

            def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
                watch._epoch_ended(epoch + 1, logs or {}, self.model)

            def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                watch._meter.detach(self.model)

        return Watcher()

    def _training_begins(self) -> None:
        self._saved_step, self._saved_at = self._first_step, time.monotonic()
        if self._restored is None:
            return
        for number, kept in enumerate(self._kept):
            values = self._restored.values["callbacks"][number]
            arrays = tuple(self._restored.of(f"callbacks.{number}"))
            kept.module.restore(kept.callback, CallbackState(values, arrays))

    def _restore_metrics(self, model: keras.Model) -> None:
        """Put back the running means of a half epoch: `fit` resets them as the epoch begins."""
        if self._restored is not None and self._first_step:
            put_back(self._restored, "metrics", model.metrics_variables)

    def _batch_ended(self, batches: int, logs: Mapping[str, Any], model: keras.Model) -> None:
        # The last call of an epoch may be asked for more than there is.
        step = min(self._first_step + batches, self._steps)
        if step == self._steps:
            self._meter.end(step - self._first_step)
        # After the last batch the epoch's own end says more, and stops as well.
        if step < self._steps:
            self._obey(lambda: self._save(self._snapshot(model, step)))
            if self._is_due(step):
                self._save(self._snapshot(model, step))
        now = time.monotonic()
        if now - self._told_at < PROGRESS_EVERY_S:
            return
        # Reading a metric waits for the device, so it is done for the progress alone.
        self._told_at = now
        metrics = metrics_of(logs)
        self._refuse_nan(metrics, logs, self.epoch + 1)
        self.tell_pipeline()
        self._observer.progress(Progress(self.epoch + 1, self._epochs, step, self._steps, metrics))

    def _epoch_ended(self, epoch: int, logs: Mapping[str, Any], model: keras.Model) -> None:
        metrics = metrics_of(logs)
        self._refuse_nan(metrics, logs, epoch)
        self._first_step = 0
        self.epoch, self.stopped = epoch, bool(model.stop_training)
        for name, value in _numbers(logs):
            self.history.setdefault(name, []).append(value)
        self._pace.epoch_ended(epoch)
        snapshot = self._snapshot(model, 0)
        self.ended = snapshot if epoch == self._keep_end_of else None
        self._save(snapshot)
        self._observer.epoch(EpochEnd(epoch, epoch * self._steps, metrics))
        self.tell_pipeline()
        self._told_at = time.monotonic()
        self._observer.progress(Progress(epoch, self._epochs, self._steps, self._steps, metrics))
        self._obey(lambda: None)

    def _is_due(self, step: int) -> bool:
        steps, seconds = self._schedule.every_steps, self._schedule.every_s
        return (
            steps is not None and step - self._saved_step >= steps
        ) or time.monotonic() - self._saved_at >= seconds

    def _save(self, checkpoint: Checkpoint) -> None:
        self._checkpoints.save(checkpoint)
        # From the end of a save: a slow disk leaves time to train.
        self._saved_step, self._saved_at = checkpoint.step, time.monotonic()

    def _snapshot(self, model: keras.Model, step: int) -> Checkpoint:
        states = [kept.module.state(kept.callback) for kept in self._kept]
        arrays = arrays_of("model", variables_of(model))
        for owner, optimizer in optimizers_of(model).items():
            arrays |= arrays_of(owner, optimizer.variables)
        if step:
            arrays |= arrays_of("metrics", model.metrics_variables)
        for number, state in enumerate(states):
            arrays |= numbered(f"callbacks.{number}", state.arrays)
        return self.checkpoint(
            step=step, arrays=arrays, values={"callbacks": [dict(state.values) for state in states]}
        )

    def _obey(self, leave: Callable[[], None]) -> None:
        """End training if asked to; `leave` writes what another attempt needs."""
        match self._observer.interruption():
            case Interruption.CANCEL:
                raise Cancelled("training was cancelled")
            case Interruption.STOP:
                leave()
                raise Interrupted(f"training was stopped after {self.epoch} whole epochs")
            case None:
                return

    def _refuse_cancelled(self) -> None:
        """End a validation that nobody wants; a stop waits for its end, as the epoch isn't whole before."""
        if self._observer.interruption() is Interruption.CANCEL:
            raise Cancelled("training was cancelled")

    def _refuse_nan(self, metrics: Mapping[str, float], logs: Mapping[str, Any], epoch: int) -> None:
        if "loss" in logs and "loss" not in metrics:
            raise NanLossError(f"the loss became {float(logs['loss'])} in epoch {epoch}")


def metrics_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics as floats, leaving out what is not a finite number: JSON has no NaN."""
    return {name: value for name, value in _numbers(logs) if math.isfinite(value)}


def _numbers(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every metric as a number; one of each class (F1Score) as `f1_score_0`, `f1_score_1`, ..."""
    import numpy as np

    for name, value in logs.items():
        if np.ndim(value) == 0:
            yield name, float(value)
        else:
            yield from ((f"{name}_{place}", float(each)) for place, each in enumerate(np.ravel(value)))
