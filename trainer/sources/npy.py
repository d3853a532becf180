"""NumPy files: one array, the first axis counts the rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainer.arrays import ArrayFile, ArrayTable, Part
from trainer.errors import InvalidDataError
from trainer.source import Columns, DataFile, FileOptions
from trainer.table import Table

KIND = "npy"


class Options(FileOptions):
    """A NumPy file (`numpy.save`) of one array.

    The fields of a structured array are its columns. Any other array is one column, `x`; a flat table,
    (rows, columns), has the columns that `column_names` gives names to, one after another.
    """

    reads_by: ClassVar = frozenset({"column_names"})
    kind: Literal["npy"]
    column_names: Columns | None = None


def detect(head: bytes, filename: str) -> bool:  # noqa: ARG001 - the contract of sources
    """Say whether this begins as numpy.save begins a file."""
    return head.startswith(b"\x93NUMPY")


def open_table(options: Options | None, file: DataFile) -> Table:
    """Open the array where it is; pickled objects are refused unread."""
    array = ArrayFile.open(file.path)
    if not array.shape:
        raise InvalidDataError("the array is a single value; its first axis must count the rows")
    names = options.column_names if options else None
    if array.dtype.names:
        if names:
            raise InvalidDataError(
                "a structured array names its columns itself: leave column_names out",
                location={"pointer": "/data/column_names"},
            )
        return ArrayTable({name: Part(array, name) for name in array.dtype.names})
    if names is None:
        return ArrayTable({"x": array})
    if len(array.shape) != 2 or array.shape[1] != len(names) or len(set(names)) < len(names):
        raise InvalidDataError(
            f"column_names are {len(set(names))} different names; the array has the shape {array.shape}",
            location={"pointer": "/data/column_names"},
            remedy="Give each column of a flat table a name of its own.",
        )
    return ArrayTable({name: Part(array, number) for number, name in enumerate(names)})
