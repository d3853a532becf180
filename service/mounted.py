"""Data that stay where the operator has them: files and folders below FITSERVE_DATA_ROOTS, read in place.

They are no content-addressed copies, so whoever reads them looks first whether they are still what was read
when their digest was taken: by the fingerprint, which costs one look at each file, and where that differs by
the digest itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.uris import is_below
from trainer.errors import DataUnreachableError, InvalidDataError
from trainer.source import DataFile

REMEDY = "Put the data back as they were, or make a data set of them anew: POST /v1/datasets."


def measured(path: Path, roots: Sequence[Path], conversions: Path) -> dict[str, str | int]:
    """Read a file, or every file of a folder, once: `digest`, `size_bytes` and `fingerprint`.

    Raises:
        DataUnreachableError: there is nothing, or somebody is writing to it.
        InvalidDataError: it leads out of the roots, or is neither file nor folder.
    """
    before = fingerprint(path, roots)
    digest = DataFile(path, conversions).digest
    if fingerprint(path, roots) != before:
        raise DataUnreachableError(f"{path} is being written to")
    size = sum(each.st_size for _, each in _files(path, roots))
    return {"digest": f"sha256:{digest}", "size_bytes": size, "fingerprint": before}


def fingerprint(path: Path, roots: Sequence[Path]) -> str:
    """What changes with any change of the files, short of their content: names, sizes, times, inodes.

    Raises:
        DataUnreachableError, InvalidDataError: as for `measured`.
    """
    said = hashlib.sha256()
    for name, each in _files(path, roots):
        said.update(
            f"{name}\0{each.st_size} {each.st_mtime_ns} {each.st_ctime_ns} {each.st_ino}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
    return said.hexdigest()


def require_unchanged(file: DataFile, roots: Sequence[Path], was: str) -> None:
    """See that a file or folder is what it was when its digest was taken.

    Raises:
        InvalidDataError: it has changed.
        DataUnreachableError: it is gone.
    """
    if fingerprint(file.path, roots) == was:
        return
    # Another host may see other inodes, and a touch changes nothing: the content decides.
    if DataFile(file.path, file.conversions).digest != file.known_digest:
        raise InvalidDataError(
            f"the data at {file.path} have changed since they were first read", remedy=REMEDY
        )


def _files(path: Path, roots: Sequence[Path]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file by its name in the folder, in order; links are followed, but not out of the roots."""
    try:
        if not is_below(Path(os.path.realpath(path)), roots):
            raise InvalidDataError(f"{path} leads out of the folders that are allowed (FITSERVE_DATA_ROOTS)")
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            yield "", found
        elif stat.S_ISDIR(found.st_mode):
            for each in sorted(path.rglob("*")):
                if not each.is_dir():
                    yield from ((str(each.relative_to(path)), found) for _, found in _files(each, roots))
        else:
            raise InvalidDataError(f"{path} is neither a file nor a folder")
    except OSError as error:
        raise DataUnreachableError(f"{path} can't be read: {error.strerror or error}") from error
