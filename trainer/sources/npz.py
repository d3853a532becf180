"""NumPy archives: one array a column, the first axis counts the rows."""

from __future__ import annotations

import itertools
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.arrays import ArrayFile, ArrayTable, Head, read_head
from trainer.errors import InvalidDataError
from trainer.frames import kept_once
from trainer.source import DataFile, FileOptions
from trainer.table import Table
from trainer.unpacking import check_unpacked, first_member

if TYPE_CHECKING:
    import numpy as np

KIND = "npz"
SUFFIX = ".npy"
# More than this isn't held in memory: each array is unpacked to a file once, and read from there.
MOST_IN_MEMORY = 256 << 20
# What zipfile raises of an archive; a name that is not in UTF-8 among it.
_BROKEN = (EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, UnicodeDecodeError)


class Options(FileOptions):
    """A NumPy archive (`numpy.savez`): features and label name its arrays."""

    kind: Literal["npz"]


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is a zip archive with a .npy in front, or an .npz by name."""
    first = first_member(head)
    return first is not None and (first.endswith(SUFFIX) or filename.lower().endswith(".npz"))


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Open the arrays; pickled objects are refused unread."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(SUFFIX)]
            if not members:
                raise InvalidDataError("the file is no NumPy archive of named arrays (numpy.savez)")
            check_unpacked("the archive", file.path.stat().st_size, sum(each.file_size for each in members))
            return ArrayTable(_arrays(archive, members, file))
    except _BROKEN as error:
        raise InvalidDataError(f"the archive can't be read: {error}") from error


def _arrays(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file: DataFile
) -> dict[str, np.ndarray | ArrayFile]:
    heads: dict[str, Head] = {}
    for each in members:
        name = each.filename.removesuffix(SUFFIX)
        if name in heads:
            raise InvalidDataError(
                f"array {name!r} is there twice",
                location={"column": name},
                remedy="Give each array a name of its own.",
            )
        heads[name] = _head(archive, each)
    if sum(each.file_size for each in members) <= MOST_IN_MEMORY:
        contents = (archive.read(each) for each in members)
        return {
            name: head.array(content) for (name, head), content in zip(heads.items(), contents, strict=True)
        }

    def unpack(target: Path) -> None:
        with target.open("wb") as plain:
            for each in members:
                with archive.open(each) as member:
                    shutil.copyfileobj(member, plain, 1 << 20)

    # One file, which is there whole or not at all; the members lie in it one after another.
    path = kept_once(file.converted(KIND, suffix=".npys"), unpack)
    begins = itertools.accumulate((each.file_size for each in members), initial=0)
    return {
        name: ArrayFile.open(path, begin, each.file_size)
        for name, begin, each in zip(heads, begins, members, strict=False)
    }


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Head:
    with archive.open(member) as content:
        return read_head(content, member.file_size, member.filename.removesuffix(SUFFIX))
