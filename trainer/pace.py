"""How many steps one call of TensorFlow runs (`steps_per_execution`), where the spec leaves it to us.

More of them in a call save what each call costs besides (Python, callbacks, a wait for the device), and until
the call returns nobody is heard: no cancel, no stop, no checkpoint. The first epoch always runs step by step:
a job starts as soon, and what changing over costs, tracing the model anew, is known by its end.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

MOST = 64
CALL_AT_MOST_S = 0.25
CALL_COSTS_S = 0.0002
TRACING_COSTS_S = 1.0
WORTH = 2.0
"""So many times what it costs must be saved."""
# A core of a few years ago does so much in a small matrix product; only the rule for seeded jobs rests on it.
FLOPS_PER_S = 4e9


@dataclass
class Stopwatch:
    """The times of an epoch's calls: the first one traces the model, the others do steps."""

    tracing_s: float = 0.0
    _steps: int = 0
    _began: float = 0.0
    _spent_s: float = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._began = time.perf_counter()

    def end(self) -> None:
        """The step that began has ended."""
        spent_s = time.perf_counter() - self._began
        if self._steps == 0:
            self.tracing_s = spent_s
        else:
            self._spent_s += spent_s
        self._steps += 1

    @property
    def step_s(self) -> float:
        """The mean of all steps but the first; infinite before there are any."""
        return self._spent_s / (self._steps - 1) if self._steps > 1 else math.inf


class Pace:
    """The steps of each call, epoch by epoch; a checkpoint keeps what was measured."""

    def __init__(
        self,
        asked: int | Literal["auto"],
        *,
        model: keras.Model,
        batch_size: int,
        steps: int,
        epochs: int,
        most: int | None,
        seeded: bool,
    ) -> None:
        """`steps` are an epoch's, `most` bounds the choice where checkpoints come closer."""
        self.stopwatch = Stopwatch()
        self._steps, self._epochs, self._most = steps, epochs, min(MOST, most or MOST)
        self._ruled: int | None = None
        self._chosen: int | None = None
        if asked != "auto":
            self._chosen = asked
        elif seeded:
            self._ruled = self._by_size(model, batch_size)
        elif not self._pays(TRACING_COSTS_S / 4, self._steps * (epochs - 1)):
            self._chosen = 1

    def at(self, epoch: int) -> int:
        """Return the steps of each call in this epoch, from 0."""
        if self._ruled is not None:
            return self._ruled if epoch else 1
        return self._chosen or 1

    def may_change_after(self, epoch: int) -> bool:
        """Whether the next epoch may run at another pace, so that a fit must end with this one."""
        return self._chosen is None and (self._ruled is None or self.at(epoch) != self.at(epoch + 1))

    def epoch_ended(self, epochs_done: int) -> None:
        """Choose by what the epoch's steps took, unless that is done."""
        if self._chosen is None and self._ruled is None:
            pays = self._pays(self.stopwatch.tracing_s, self._steps * (self._epochs - epochs_done))
            self._chosen = self._whole(CALL_AT_MOST_S / self.stopwatch.step_s) if pays else 1

    def state(self) -> int | None:
        """Return what was chosen, if it was."""
        return self._chosen

    def restore(self, state: int | None) -> None:
        """Go on as an earlier attempt chose."""
        self._chosen = self._chosen or state

    def _by_size(self, model: keras.Model, batch_size: int) -> int:
        """Choose by the job's size alone, so that one that names a seed is the same everywhere."""
        if not self._pays(TRACING_COSTS_S, self._steps * (self._epochs - 1)):
            return 1
        step_s = flops_of_a_row(model) * batch_size / FLOPS_PER_S
        return self._whole(CALL_AT_MOST_S / max(step_s, 1e-9))

    def _pays(self, tracing_s: float, steps_left: int) -> bool:
        return steps_left * CALL_COSTS_S > WORTH * tracing_s

    def _whole(self, wanted: float) -> int:
        """Return a number of about that size, if there is one such that an epoch's last call is whole."""
        limit = max(1, min(int(min(wanted, MOST)), self._steps, self._most))
        whole = next(number for number in range(limit, 0, -1) if self._steps % number == 0)
        return whole if whole * 2 > limit else limit


def flops_of_a_row(model: keras.Model) -> float:
    """Estimate what a training step does for one row: a multiply-add forward and two backward, each weight.

    A weight of a convolution or a recurrent layer is used at each place or time step.
    """
    return sum(_flops(layer, 1) for layer in model.layers)


def _flops(layer: keras.Layer, places: int) -> float:
    import keras

    if isinstance(layer, keras.Model):
        return flops_of_a_row(layer)
    for node in layer._inbound_nodes:
        for tensor in (*node.input_tensors, *node.outputs):
            places = max(places, math.prod(size or 1 for size in tensor.shape[1:-1]))
    parts = [part for part in layer._layers if isinstance(part, keras.Layer)]
    if parts:  # a wrapper's layer, a recurrent layer's cell: used wherever the whole is
        return sum(_flops(part, places) for part in parts)
    if isinstance(layer, keras.layers.Embedding):  # which looks a row up
        return 0.0
    weights = sum(math.prod(weight.shape) for weight in layer.trainable_weights if len(weight.shape) > 1)
    return float(6 * weights * places)
