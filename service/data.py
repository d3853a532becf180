"""Uploaded data sets as files: content-addressed, shared by the API and the workers."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import UploadTooLargeError
from service.jobs import Job
from trainer.source import DataFile

CONVERSIONS = ".conversions"
"""In the data root: what files were converted to, for whoever reads them next."""


@dataclass(frozen=True)
class StoredFile:
    """A file in the data root, named by its content."""

    digest: str
    size_bytes: int
    path: Path


def dataset_file(root: Path, digest: str) -> Path:
    """Where the content of this digest (`sha256:<hex>`) lies."""
    name = digest.removeprefix("sha256:")
    return root / name[:2] / name


def place_of(root: Path, job: Job) -> dict[str, str]:
    """For a child's order: where the data of a job lie; nothing if its spec holds them."""
    if job.dataset_id is None:
        return {}
    assert job.dataset_digest is not None
    return {"data_file": str(dataset_file(root, job.dataset_digest)), "conversions": str(root / CONVERSIONS)}


def data_file_of(details: Mapping[str, Any], digest: str | None) -> DataFile | None:
    """What an order's details say of the data, whose name in the data root is their digest."""
    if "data_file" not in details:
        return None
    hexadecimal = None if digest is None else digest.removeprefix("sha256:")
    return DataFile(Path(details["data_file"]), Path(details["conversions"]), hexadecimal)


def keep(root: Path, chunks: Iterable[bytes], *, max_bytes: int) -> StoredFile:
    """Write the chunks to disk, then move them under their digest; the same content is kept once.

    Raises:
        UploadTooLargeError: there were more than `max_bytes`; nothing is kept.
    """
    root.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor, name = tempfile.mkstemp(prefix=".upload-", dir=root)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise UploadTooLargeError(f"the upload is larger than {max_bytes} bytes")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        target = dataset_file(root, "sha256:" + digest.hexdigest())
        target.parent.mkdir(exist_ok=True)
        temporary.replace(target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return StoredFile("sha256:" + digest.hexdigest(), size, target)


def _sync_folder(folder: Path) -> None:
    """Make a rename in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
