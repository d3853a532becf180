"""LearningRateScheduler: set the learning rate at the start of each epoch, by one of Keras's schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator

from trainer.callback import RATE_IS_SCHEDULED, CallbackContext, CallbackOptions, CallbackState
from trainer.compiling import CompileOptions
from trainer.forms import Flag, invalid
from trainer.objects import completed, object_faults, size_faults

if TYPE_CHECKING:
    import keras

NAME = "LearningRateScheduler"


def _schedule(value: dict[str, Any]) -> dict[str, Any]:
    faults = size_faults(value) or list(object_faults(value, "schedules"))
    if faults:
        raise invalid("schedule", faults, value)
    return value


class Options(CallbackOptions):
    """Keras takes a function of the epoch (from 0) here, a spec the schedule that would be one.

    `schedule` is an object of keras.optimizers.schedules whose steps are epochs: with PiecewiseConstantDecay
    of boundaries [9] and values [0.01, 0.001] the rate is 0.01 in the first ten epochs.
    """

    schedule: Annotated[dict[str, Any], AfterValidator(_schedule)]
    verbose: Flag | Literal[0, 1] = 0

    def unmet(self, how: CompileOptions) -> str:
        """It sets the rate itself, which a schedule would set anew at the next step."""
        return RATE_IS_SCHEDULED if how.schedules_rate else ""


def build(options: Options, context: CallbackContext) -> keras.callbacks.LearningRateScheduler:  # noqa: ARG001
    """Make Keras's LearningRateScheduler."""
    import keras

    schedule = keras.optimizers.schedules.deserialize(completed(options.schedule))

    def rate(epoch: int, present: float) -> float:  # noqa: ARG001 - Keras's signature
        return float(schedule(epoch))

    return keras.callbacks.LearningRateScheduler(rate, verbose=int(options.verbose))


def state(callback: keras.callbacks.LearningRateScheduler) -> CallbackState:  # noqa: ARG001 - the contract
    """Nothing: the rate depends on the epoch alone."""
    return CallbackState()


def restore(callback: keras.callbacks.LearningRateScheduler, state: CallbackState) -> None:
    """There is nothing to put back."""
