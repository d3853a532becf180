"""The model's weights in Keras's own file, for who goes on training or builds the model in Python."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
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
    _claim_room(model, destination)
    model.save_weights(destination)
    # The file may hold more: a compiled model's optimizer is saved beside its weights.
    missing = Counter(_tensor(weight.numpy()) for weight in model.weights) - _stored(destination)
    if missing:
        shapes = ", ".join(str(shape) for shape, _ in missing)
        raise ExportFailedError(NAME, f"{destination.name} lacks variables of shape {shapes}")
    return f"keras {keras.__version__} save_weights"


def _claim_room(model: keras.Model, destination: Path) -> None:
    """Have the file system give the room before: HDF5 crashes (SIGSEGV) when it finds none at its close."""
    optimizer = getattr(model, "optimizer", None)  # of a compiled model
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    size_bytes = sum(variable.numpy().nbytes + HDF5_BYTES_EACH for variable in variables) + HDF5_BYTES_EACH
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
