"""SwapEMAWeights: validate, checkpoint and export the moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.callback import CallbackContext, CallbackOptions, CallbackState
from trainer.compiling import CompileOptions
from trainer.forms import Flag

if TYPE_CHECKING:
    import keras

NAME = "SwapEMAWeights"


class Options(CallbackOptions):
    """Keras's own argument; the optimizer keeps the average, with its own `use_ema` and `ema_momentum`."""

    swap_on_epoch: Flag = False

    def unmet(self, how: CompileOptions) -> str:
        """The average is the optimizer's."""
        return "" if how.averages_weights else 'the optimizer needs "use_ema": true in its config'


def build(options: Options, context: CallbackContext) -> keras.callbacks.SwapEMAWeights:  # noqa: ARG001
    """Make Keras's SwapEMAWeights."""
    import keras

    return keras.callbacks.SwapEMAWeights(swap_on_epoch=options.swap_on_epoch)


def state(callback: keras.callbacks.SwapEMAWeights) -> CallbackState:
    """Return whether the model holds the average now, and the optimizer the weights."""
    return CallbackState({"swapped": callback._ema_weights_in_model})


def restore(callback: keras.callbacks.SwapEMAWeights, state: CallbackState) -> None:
    """Put the state back; weights and averages come back with model and optimizer."""
    callback._ema_weights_in_model = state.values["swapped"]
