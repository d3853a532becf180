"""CSVLogger: the epochs' metrics as a table, among the version's artifacts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from trainer.callback import CallbackContext, CallbackOptions, CallbackState

if TYPE_CHECKING:
    import keras

NAME = "CSVLogger"
ARTIFACT = "csv_log"
FILE = "log.csv"


class Options(CallbackOptions):
    """Keras's own argument; the file is the job's, and a resumed job goes on with it."""

    separator: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","


def build(options: Options, context: CallbackContext) -> keras.callbacks.CSVLogger:
    """Make Keras's CSVLogger, which appends: the folder is empty unless a run is resumed."""
    import keras

    return keras.callbacks.CSVLogger(str(context.folder / FILE), separator=options.separator, append=True)


def close(callback: keras.callbacks.CSVLogger) -> None:
    """Close the file, which Keras does at the end of training alone."""
    if callback.csv_file is not None:
        callback.csv_file.close()


def written(callback: keras.callbacks.CSVLogger) -> Path:
    """Return the table."""
    return Path(callback.filename)


def state(callback: keras.callbacks.CSVLogger) -> CallbackState:
    """Return how long the file is: what an attempt writes after its checkpoint is written again."""
    file = Path(callback.filename)
    return CallbackState({"size_bytes": file.stat().st_size if file.exists() else 0})


def restore(callback: keras.callbacks.CSVLogger, state: CallbackState) -> None:
    """Cut the file off where the checkpoint saw its end."""
    size_bytes = state.values["size_bytes"]
    os.truncate(callback.filename, size_bytes)
    callback.append_header = size_bytes == 0
