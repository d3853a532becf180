"""The model's weights in Keras's own file, for who goes on training or builds the model in Python."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from exporter.errors import ExportFailedError

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

NAME = "weights"
PATH = "assets.extra/model.weights.h5"
HDF5_BYTES_EACH = 4096
"""More than HDF5 writes besides a dataset's bytes: headers, B-tree nodes and the groups that lead there."""

# Shape and digest of the bytes: what makes two tensors the same.
_Tensor: TypeAlias = tuple[tuple[int, ...], bytes]


def write_weights(model: keras.Model, destination: Path) -> str:
    """Write the weights, read the file back, and return the recipe.

    Raises:
        OSError: there is no room for them.
        ExportFailedError: the file doesn't hold every variable of the model, bit for bit.
    """
    import keras

    destination.parent.mkdir(parents=True, exist_ok=True)
    claim_room(model, destination)
    with optimizers_left_out(model):
        model.save_weights(destination)
    # The file may hold more: random states.
    missing = Counter(_tensor(weight.numpy()) for weight in model.weights) - _stored(destination)
    if missing:
        shapes = ", ".join(str(shape) for shape, _ in missing)
        raise ExportFailedError(NAME, f"{destination.name} lacks variables of shape {shapes}")
    return f"keras {keras.__version__} save_weights"


@contextmanager
def optimizers_left_out(model: keras.Model) -> Iterator[None]:
    """Have Keras save no optimizer beside the weights: with Adam they would be three times as large."""
    import keras

    optimizers = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    for optimizer in optimizers:
        optimizer.save_own_variables = _nothing
    try:
        yield
    finally:
        for optimizer in optimizers:
            del optimizer.save_own_variables


def _nothing(store: object) -> None:
    """Save no variable."""


def claim_room(model: keras.Model, destination: Path) -> None:
    """Have the file system give the room before: HDF5 crashes (SIGSEGV) when it finds none at its close."""
    sizes = [variable.numpy().nbytes + HDF5_BYTES_EACH for variable in model.variables]
    size_bytes = sum(sizes) + HDF5_BYTES_EACH
    with destination.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _stored(file: Path) -> Counter[_Tensor]:
    import h5py

    found: Counter[_Tensor] = Counter()

    def visit(_name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[_tensor(np.asarray(item))] += 1

    with h5py.File(file) as stored:
        stored.visititems(visit)
    return found


def _tensor(array: npt.NDArray[Any]) -> _Tensor:
    return array.shape, hashlib.sha256(array.tobytes()).digest()
