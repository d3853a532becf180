"""Named arrays in a file: how rows and answers pass between the training process and its converter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from exporter.format import Arrays


def write_arrays(path: Path, arrays: Arrays) -> Path:
    """Write an .npz of plain arrays, without Python objects."""
    numbered = {str(index): plain(array) for index, array in enumerate(arrays.values())}
    # The names are data here: as keywords of savez, one called "file" would collide with its parameter.
    np.savez(path, names=np.array(list(arrays), dtype=str), **numbered)  # type: ignore[arg-type]
    return path


def read_arrays(path: Path) -> Arrays:
    """Read what `write_arrays` wrote, in the same order."""
    with np.load(path, allow_pickle=False) as stored:
        return {str(name): stored[str(index)] for index, name in enumerate(stored["names"])}


def plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring an array to a dtype of numpy's own: strings to fixed-width unicode, bfloat16 to float32."""
    if array.dtype.kind == "O":
        return np.array([_text(item) for item in array.ravel()], dtype=str).reshape(array.shape)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "surrogateescape")
    # bfloat16 and its like come from ml_dtypes; float32 holds each of their values.
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _text(item: object) -> str:
    return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else str(item)
