"""EarlyStopping: end training when the monitored metric no longer improves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.callback import CallbackContext, CallbackOptions, CallbackState
from trainer.forms import Flag, Number

if TYPE_CHECKING:
    import keras
    import numpy as np

NAME = "EarlyStopping"


class Options(CallbackOptions):
    """Keras's own arguments and defaults."""

    monitor: str = "val_loss"
    min_delta: Number = 0
    patience: Annotated[int, Field(strict=True, ge=0)] = 0
    verbose: Literal[0, 1] = 0
    mode: Literal["auto", "min", "max"] = "auto"
    baseline: Number | None = None
    restore_best_weights: Flag = False
    start_from_epoch: Annotated[int, Field(strict=True, ge=0)] = 0


def build(options: Options, context: CallbackContext) -> keras.callbacks.EarlyStopping:  # noqa: ARG001
    """Make Keras's EarlyStopping."""
    import keras

    return keras.callbacks.EarlyStopping(**options.model_dump())


def state(callback: keras.callbacks.EarlyStopping) -> CallbackState:
    """Return the best value, its epoch and weights, and how long it has been waited for a better one."""
    return CallbackState(
        {
            "wait": callback.wait,
            "stopped_epoch": callback.stopped_epoch,
            "best": None if callback.best is None else float(callback.best),
            "best_epoch": callback.best_epoch,
        },
        tuple(callback.best_weights or ()),
    )


def restore(callback: keras.callbacks.EarlyStopping, state: CallbackState) -> None:
    """Put the state back."""
    for name, value in state.values.items():
        setattr(callback, name, value)
    callback.best_weights = list(state.arrays) or None


def best_weights(callback: keras.callbacks.EarlyStopping) -> list[np.ndarray] | None:
    """Return the best epoch's weights when it was asked to restore them."""
    best: list[np.ndarray] | None = callback.best_weights
    return best
