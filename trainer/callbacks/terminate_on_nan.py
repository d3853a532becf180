"""TerminateOnNaN: look at the loss after every batch, so that a job whose loss is no number ends at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.callback import CallbackContext, CallbackOptions, CallbackState

if TYPE_CHECKING:
    import keras

NAME = "TerminateOnNaN"


class Options(CallbackOptions):
    """It takes no arguments. Without it the loss is looked at about once a second, which costs nothing."""


def build(options: Options, context: CallbackContext) -> keras.callbacks.TerminateOnNaN:  # noqa: ARG001
    """Make Keras's TerminateOnNaN; that it stopped training is told as the job's `nan_loss`."""
    import keras

    return keras.callbacks.TerminateOnNaN()


def state(callback: keras.callbacks.TerminateOnNaN) -> CallbackState:  # noqa: ARG001 - the contract
    """Nothing: it remembers nothing."""
    return CallbackState()


def restore(callback: keras.callbacks.TerminateOnNaN, state: CallbackState) -> None:
    """There is nothing to put back."""
