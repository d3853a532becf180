"""Data sets as files: content-addressed, shared by API and workers; or where the operator has them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import UploadTooLargeError
from service.uris import FURTHER, UriError
from trainer.errors import DataUnreachableError
from trainer.source import DataFile

if TYPE_CHECKING:  # the child reads this too, and knows no database
    from service.jobs import Job
    from service.kind import Site

CONVERSIONS = ".conversions"
"""In the data root: what files were converted to, a folder a digest, for whoever reads them next."""
UPLOADED, FETCHED, DELETED = ".upload-", ".fetch-", ".deleted-"
"""How names begin in the data root of what is not yet, or no more, anybody's."""


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


def folder_of_conversions(root: Path, digest: str | None) -> Path:
    """Where what the content of this digest was converted to lies; without one, of content not yet known."""
    return root / CONVERSIONS / (digest or "new").removeprefix("sha256:")


def place_of(site: Site, job: Job) -> dict[str, Any]:
    """For a child's order: where the data of a job lie; nothing if its spec holds them.

    Raises:
        DataUnreachableError: they are in a folder that is not allowed any more.
    """
    if job.dataset_id is None:
        return {}
    assert job.dataset_digest is not None
    further = {
        part: _place(site, dataset.id, dataset.digest or "") | {"digest": dataset.digest}
        for part, dataset in site.records.datasets.used_by(job.id).items()
        if part in FURTHER
    }
    place = _place(site, job.dataset_id, job.dataset_digest)
    return {**place, "further": further} if further else place


def data_file_of(details: Mapping[str, Any], digest: str | None) -> DataFile | None:
    """What an order's details say of the data, whose name in the data root is their digest.

    Raises:
        TrainerError: they stay where the operator has them, and are not what they were.
    """
    if "data_file" not in details:
        return None
    hexadecimal = None if digest is None else digest.removeprefix("sha256:")
    further = {part: data_file_of(each, each["digest"]) for part, each in details.get("further", {}).items()}
    file = DataFile(
        Path(details["data_file"]),
        Path(details["conversions"]),
        hexadecimal,
        {part: each for part, each in further.items() if each is not None},
    )
    if "fingerprint" in details:
        from service.mounted import require_unchanged

        require_unchanged(file, [Path(root) for root in details["roots"]], details["fingerprint"])
    return file


def _place(site: Site, dataset_id: str, digest: str) -> dict[str, Any]:
    settings = site.settings
    place: dict[str, Any] = {"conversions": str(folder_of_conversions(settings.data_root, digest))}
    dataset = site.records.datasets.get(dataset_id)
    if dataset is None or dataset.fingerprint is None:
        return {**place, "data_file": str(dataset_file(settings.data_root, digest))}
    assert dataset.uri is not None
    try:
        path = settings.allowed.path_of(dataset.uri)
    except UriError as error:
        raise DataUnreachableError(str(error)) from error
    return {
        **place,
        "data_file": str(path),
        "roots": [str(root) for root in settings.allowed.roots],
        "fingerprint": dataset.fingerprint,
    }


def keep(root: Path, chunks: Iterable[bytes], *, max_bytes: int, prefix: str = UPLOADED) -> StoredFile:
    """Write the chunks to disk, then move them under their digest; the same content is kept once.

    `prefix` is how its name begins until it is whole.

    Raises:
        UploadTooLargeError: there were more than `max_bytes`; nothing is kept.
    """
    root.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=root)
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


class Removal:
    """A content that nobody names any more, on its way out: kept aside until the records say so for good."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside: list[tuple[Path, Path]] = []

    def put_aside(self, digest: str) -> None:
        """Take the file of this digest and its conversions out of their places."""
        for place in (dataset_file(self._root, digest), folder_of_conversions(self._root, digest)):
            aside = self._root / f"{DELETED}{len(self._aside)}-{place.name}"
            if place.exists():
                place.replace(aside)
                self._aside.append((place, aside))

    def put_back(self) -> None:
        """The records keep it."""
        for place, aside in self._aside:
            aside.replace(place)

    def finish(self) -> None:
        """The records have let it go."""
        for _, aside in self._aside:
            if aside.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
