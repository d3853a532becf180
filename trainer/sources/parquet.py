"""Parquet files."""

from __future__ import annotations

from typing import Literal

from trainer.frames import FrameTable
from trainer.source import DataFile, FileOptions
from trainer.table import Table

KIND = "parquet"


class Options(FileOptions):
    """A Parquet file; a list of numbers, as many in each row, is one column of that shape."""

    kind: Literal["parquet"]


def detect(head: bytes, filename: str) -> bool:  # noqa: ARG001 - the contract of sources
    """Say whether this begins as Parquet does."""
    return head.startswith(b"PAR1")


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Open it where it is."""
    return FrameTable(file.path)
