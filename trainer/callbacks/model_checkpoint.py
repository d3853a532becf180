"""ModelCheckpoint: keep the weights of the best epoch, or of the last, in the job's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.callback import CallbackContext, CallbackOptions, CallbackState
from trainer.forms import Flag, Number

if TYPE_CHECKING:
    import keras
    import numpy as np

NAME = "ModelCheckpoint"
FILE = "checkpoint.weights.h5"


class Options(CallbackOptions):
    """Keras's own arguments and defaults; what is kept are the weights, saved at the end of epochs."""

    monitor: str = "val_loss"
    verbose: Literal[0, 1] = 0
    save_best_only: Flag = False
    save_weights_only: Flag = True
    mode: Literal["auto", "min", "max"] = "auto"
    save_freq: Literal["epoch"] = "epoch"
    initial_value_threshold: Number | None = None


def build(options: Options, context: CallbackContext) -> keras.callbacks.ModelCheckpoint:
    """Make Keras's ModelCheckpoint, writing to the job's folder; the architecture is in the spec already."""
    import keras

    arguments = {**options.model_dump(), "save_weights_only": True}
    return keras.callbacks.ModelCheckpoint(filepath=str(context.folder / FILE), **arguments)


def state(callback: keras.callbacks.ModelCheckpoint) -> CallbackState:
    """Return the best value and the file's bytes, so that value and weights never part."""
    import numpy as np

    file = Path(callback.filepath)
    content = (np.frombuffer(file.read_bytes(), np.uint8),) if file.exists() else ()
    return CallbackState({"best": None if callback.best is None else float(callback.best)}, content)


def restore(callback: keras.callbacks.ModelCheckpoint, state: CallbackState) -> None:
    """Put the best value and its file back; a file of epochs after the checkpoint goes."""
    callback.best = state.values["best"]
    file = Path(callback.filepath)
    file.unlink(missing_ok=True)
    for content in state.arrays:
        file.write_bytes(content.tobytes())


def best_weights(callback: keras.callbacks.ModelCheckpoint) -> list[np.ndarray] | None:
    """Return the file's weights when only the best were to be saved."""
    file = Path(callback.filepath)
    if not callback.save_best_only or not file.exists():
        return None
    model = callback.model
    present = model.get_weights()
    model.load_weights(file)
    best: list[np.ndarray] = model.get_weights()
    model.set_weights(present)
    return best
