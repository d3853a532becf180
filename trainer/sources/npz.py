"""NumPy archives: one array a column, the first axis counts the rows."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.errors import InvalidDataError
from trainer.source import Anomaly, ColumnProfile, DataOptions, DataProfile, Samples, weights_of

if TYPE_CHECKING:
    import numpy as np

KIND = "npz"
# Counting distinct values sorts them; beyond this a column is no set of classes anyway.
_DISTINCT_LIMIT = 5_000_000


class Options(DataOptions):
    """A NumPy archive (`numpy.savez`): features and label name its arrays."""

    kind: Literal["npz"]


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is a zip archive with a .npy in front, or an .npz by name."""
    return head.startswith(b"PK\x03\x04") and (filename.lower().endswith(".npz") or b".npy" in head[:300])


def inspect(path: Path) -> DataProfile:
    """Describe every array; statistics are taken over all values of an array."""
    arrays = _read_archive(path)
    anomalies = []
    rows = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        if len(array) != rows:
            anomalies.append(
                Anomaly(column=name, detail=f"{len(array)} rows where the first array has {rows}")
            )
        bad = _first_not_finite(array)
        if bad is not None:
            anomalies.append(
                Anomaly(column=name, row=bad + 1, detail="holds values that are not finite numbers")
            )
    return DataProfile(
        kind=KIND,
        rows=rows,
        columns=tuple(_profile(name, array) for name, array in arrays.items()),
        anomalies=tuple(anomalies),
    )


def read(options: Options, path: Path) -> Samples:
    """Read the named arrays: floats as float32, a flat array of n rows as (n, 1) features."""
    inputs, targets = options.inputs, options.targets
    weight = options.sample_weight
    wanted = [column for columns in inputs.values() for column in columns] + list(targets.values())
    wanted += [weight] if weight else []
    arrays = _read_archive(path, wanted)
    rows = len(arrays[wanted[0]])
    for name, array in arrays.items():
        if len(array) != rows:
            raise InvalidDataError(
                f"array {name!r} has {len(array)} rows, {wanted[0]!r} has {rows}",
                remedy="Every array needs as many rows along its first axis.",
            )
        bad = _first_not_finite(array)
        if bad is not None:
            raise InvalidDataError(
                f"array {name!r} holds a value that is not a finite number in row {bad + 1}",
                location={"row": bad + 1, "column": name},
            )
    return Samples(
        {name: _joined([arrays[column] for column in columns], columns) for name, columns in inputs.items()},
        {name: _narrowed(arrays[column]) for name, column in targets.items()},
        weights_of(weight, arrays[weight]) if weight else None,
    )


def _read_archive(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of plain numbers; pickled objects are refused unread."""
    import numpy as np
    from numpy.lib.npyio import NpzFile

    try:
        # Opened here: numpy leaves its own handle open when the file is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile) or not archive.files:
                raise InvalidDataError("the file is no NumPy archive of named arrays (numpy.savez)")
            for name in names or ():
                if name not in archive.files:
                    raise InvalidDataError(
                        f"array {name!r} is not in the archive; it has {', '.join(sorted(archive.files))}"
                    )
            return {name: _checked(name, archive[name]) for name in dict.fromkeys(names or archive.files)}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidDataError(f"the archive can't be read: {error}") from error


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise InvalidDataError(
            f"array {name!r} holds {array.dtype}, not numbers",
            remedy="Save numbers: integers, floats or booleans.",
        )
    if array.ndim == 0:
        raise InvalidDataError(f"array {name!r} is a single value; the first axis must count the rows")
    return array


def _first_not_finite(array: np.ndarray) -> int | None:
    import numpy as np

    if array.dtype.kind != "f":
        return None
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return int(bad.argmax()) if bad.any() else None


def _joined(arrays: list[np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Return one array as it is, several flat ones side by side as float32 of shape (rows, columns)."""
    import numpy as np

    if len(arrays) == 1:
        array = _narrowed(arrays[0])
        return array[:, np.newaxis] if array.ndim == 1 else array
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 1:
            raise InvalidDataError(
                f"array {name!r} has {array.ndim} axes: only flat arrays can be columns of one input"
            )
    return np.stack([array.astype(np.float32) for array in arrays], axis=1)


def _narrowed(array: np.ndarray) -> np.ndarray:
    import numpy as np

    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _profile(name: str, array: np.ndarray) -> ColumnProfile:
    import numpy as np

    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return ColumnProfile(
        name=name,
        dtype=str(array.dtype),
        shape=array.shape[1:],
        missing=int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0,
        distinct=len(np.unique(finite)) if array.size <= _DISTINCT_LIMIT else None,
        minimum=float(finite.min()) if finite.size else None,
        maximum=float(finite.max()) if finite.size else None,
        mean=float(finite.mean(dtype=np.float64)) if finite.size else None,
    )
