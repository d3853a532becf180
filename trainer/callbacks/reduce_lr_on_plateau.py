"""ReduceLROnPlateau: lower the learning rate when the monitored metric no longer improves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.callback import RATE_IS_SCHEDULED, CallbackContext, CallbackOptions, CallbackState
from trainer.compiling import CompileOptions
from trainer.forms import Flag, Number

if TYPE_CHECKING:
    import keras

NAME = "ReduceLROnPlateau"
# The rate itself is a variable of the optimizer, and comes back with it.
_KEPT = ("best", "wait", "cooldown_counter")


class Options(CallbackOptions):
    """Keras's own arguments and defaults."""

    monitor: str = "val_loss"
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(strict=True, ge=0)] = 10
    verbose: Flag | Literal[0, 1] = 0
    mode: Literal["auto", "min", "max"] = "auto"
    min_delta: Number = 0.0001
    cooldown: Annotated[int, Field(strict=True, ge=0)] = 0
    min_lr: Annotated[Number, Field(ge=0)] = 0

    def unmet(self, how: CompileOptions) -> str:
        """It sets the rate itself, which a schedule would set anew at the next step."""
        return RATE_IS_SCHEDULED if how.schedules_rate else ""


def build(options: Options, context: CallbackContext) -> keras.callbacks.ReduceLROnPlateau:  # noqa: ARG001
    """Make Keras's ReduceLROnPlateau."""
    import keras

    return keras.callbacks.ReduceLROnPlateau(**options.model_dump())


def state(callback: keras.callbacks.ReduceLROnPlateau) -> CallbackState:
    """Return the best value, how long it has been waited for a better one, and what is left to cool down."""
    values = {name: getattr(callback, name) for name in _KEPT}
    return CallbackState(values | {"best": None if callback.best is None else float(callback.best)})


def restore(callback: keras.callbacks.ReduceLROnPlateau, state: CallbackState) -> None:
    """Put the state back."""
    for name in _KEPT:
        setattr(callback, name, state.values[name])
