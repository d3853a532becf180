"""Named arrays in a file: how rows and answers pass between the training process and its converter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from exporter.format import Arrays


def write_arrays(path: Path, arrays: Arrays) -> Path:
    """Write an .npz of plain arrays, without Python objects.

    Bytes lie one after the other, beside where each ends: numpy's own strings lose zeros at their end.
    """
    numbered: dict[str, npt.NDArray[Any]] = {}
    for index, array in enumerate(arrays.values()):
        if array.dtype == object and all(isinstance(item, bytes) for item in array.ravel()):
            numbered[str(index)] = np.frombuffer(b"".join(array.ravel()), np.uint8)
            numbered[f"{index}/ends"] = np.cumsum([len(item) for item in array.ravel()], dtype=np.int64)
            numbered[f"{index}/shape"] = np.array(array.shape)
        else:
            numbered[str(index)] = plain(array)
    # The names are data here: as keywords of savez, one called "file" would collide with its parameter.
    np.savez(path, names=np.array(list(arrays), dtype=str), **numbered)  # type: ignore[arg-type]
    return path


def read_arrays(path: Path) -> Arrays:
    """Read what `write_arrays` wrote, in the same order."""
    with np.load(path, allow_pickle=False) as stored:
        return {
            str(name): _bytes(stored, index) if f"{index}/ends" in stored else stored[str(index)]
            for index, name in enumerate(stored["names"])
        }


def plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring an array to a dtype of numpy's own: strings to fixed-width unicode, bfloat16 to float32."""
    if array.dtype.kind == "O":
        return np.array([_text(item) for item in array.ravel()], dtype=str).reshape(array.shape)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "surrogateescape")
    # bfloat16 and its like come from ml_dtypes; float32 holds each of their values.
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _bytes(stored: Mapping[str, npt.NDArray[Any]], index: int) -> npt.NDArray[Any]:
    content, ends = stored[str(index)].tobytes(), stored[f"{index}/ends"].tolist()
    starts = [0, *ends[:-1]]
    items = np.empty(len(ends), object)
    items[:] = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    return items.reshape(stored[f"{index}/shape"])


def _text(item: object) -> str:
    return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else str(item)
