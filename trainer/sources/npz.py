"""NumPy archives: one array a column, the first axis counts the rows."""

from __future__ import annotations

import zipfile
from typing import Literal

from trainer.arrays import ArrayTable
from trainer.errors import InvalidDataError
from trainer.source import DataFile, DataOptions
from trainer.table import Table

KIND = "npz"


class Options(DataOptions):
    """A NumPy archive (`numpy.savez`): features and label name its arrays."""

    kind: Literal["npz"]


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is a zip archive with a .npy in front, or an .npz by name."""
    return head.startswith(b"PK\x03\x04") and (filename.lower().endswith(".npz") or b".npy" in head[:300])


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Read the arrays; pickled objects are refused unread."""
    import numpy as np
    from numpy.lib.npyio import NpzFile

    try:
        # Opened here: numpy leaves its own handle open when the file is no archive.
        with file.path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile) or not archive.files:
                raise InvalidDataError("the file is no NumPy archive of named arrays (numpy.savez)")
            return ArrayTable({name: archive[name] for name in archive.files})
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidDataError(f"the archive can't be read: {error}") from error
