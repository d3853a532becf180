"""TensorBoard: logs for the program of that name, among the version's artifacts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from trainer.callback import CallbackContext, CallbackOptions, CallbackState
from trainer.forms import Count, Flag, one_message

if TYPE_CHECKING:
    import keras

NAME = "TensorBoard"
ARTIFACT = "tensorboard"
_COUNTERS = ("_global_train_batch", "_global_test_batch")
_Frequency = Annotated[int, Field(strict=True, ge=0)]


class Options(CallbackOptions):
    """Keras's own arguments and defaults, but for the profiler's and the projector's files."""

    histogram_freq: _Frequency = 0
    write_graph: Flag = True
    write_images: Flag = False
    write_steps_per_second: Flag = False
    update_freq: Annotated[
        Literal["batch", "epoch"] | Count, one_message('expected "batch", "epoch" or a number of batches')
    ] = "epoch"


def build(options: Options, context: CallbackContext) -> keras.callbacks.TensorBoard:
    """Make Keras's TensorBoard, writing to the job's folder."""
    import keras

    class Resumable(keras.callbacks.TensorBoard):  # type: ignore[misc]  # Keras has no types
        """Knows the files of earlier attempts, whose last events no checkpoint has seen."""

        earlier = tuple(_files(context.folder))

    return Resumable(log_dir=str(context.folder), **options.model_dump())


def close(callback: Any) -> None:  # noqa: ANN401
    """Close the events files, which Keras does at the end of training alone."""
    callback._close_writers()


def written(callback: Any) -> Path:  # noqa: ANN401
    """Return the folder to give as --logdir."""
    return Path(callback.log_dir)


def state(callback: Any) -> CallbackState:  # noqa: ANN401 - the class made above
    """Return the counters of its horizontal axis, and how long each of its files is."""
    for writer in callback._writers.values():
        writer.flush()
    folder = Path(callback.log_dir)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder)}
    return CallbackState({"sizes": sizes, **{name: getattr(callback, name) for name in _COUNTERS}})


def restore(callback: Any, state: CallbackState) -> None:  # noqa: ANN401
    """Put the counters back, and cut off what earlier attempts logged after the checkpoint.

    The events file that this attempt has begun stays.
    """
    for name in _COUNTERS:
        setattr(callback, name, state.values[name])
    for path in callback.earlier:
        size_bytes = state.values["sizes"].get(str(path.relative_to(callback.log_dir)))
        if size_bytes is not None:
            os.truncate(path, size_bytes)
        else:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
