"""The store: TensorFlow Serving's folder layout, in which a version appears whole, once, and for ever.

`<root>/<model>/<number>/saved_model.pb` is what a server looks for; what else belongs to the version
lies in `<number>/assets.extra/`. A version is prepared in `.staging-<job>-<token>` beside it and gets its
number by one rename, so nobody ever sees half of one.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from serving import archive, models_config
from serving.errors import ManifestError, StoreError
from serving.manifest import FileDigest, Manifest

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
SAVED_MODEL = "saved_model.pb"
EXTRA = "assets.extra"
MANIFEST = PurePath(EXTRA, "manifest.json")
MODELS_CONFIG = "models.config"

ADDED = ".exports"
"""In the root: artifacts added to published versions, `<model>/<number>/<name>/`, each beside its record."""
RECORD = "artifact.json"
REMOVED = ".removed"
"""Before the name of a staging folder that is being removed."""

_STAGING = re.compile(r"(?:\.removed)?\.staging-(?P<job_id>.+)-(?P<token>\d+)")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True)
class ServedModel:
    """Which versions of a model a server keeps: the latest one, or exactly `versions`; `labels` name some."""

    versions: frozenset[int] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)


class Store:
    """The versions of all models under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def stage(self, model: str, job_id: str, token: int) -> Path:
        """Return a new, empty folder to prepare a version in; a leftover of the same name is replaced."""
        staging = self._staging(model, job_id, token)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        return staging

    def seal(self, staging: Path, manifest: Manifest) -> Manifest:
        """Record every file's digest, write the manifest, and bring all of it to the disk.

        Artifacts without `size_bytes` and `sha256` get those of their download. The staging folder must
        not change any more afterwards.

        Raises:
            StoreError: there is no saved_model.pb, an artifact is missing, or a file isn't a plain file.
        """
        if not (staging / SAVED_MODEL).is_file():
            raise StoreError(f"{staging.name} holds no {SAVED_MODEL}; a version is a SavedModel first")
        (staging / MANIFEST).unlink(missing_ok=True)
        files = {name: FileDigest(*_size_and_digest(path)) for name, path in _files(staging)}
        artifacts = [_measured(staging, artifact) for artifact in manifest.artifacts]
        sealed = replace(manifest, files=files, artifacts=artifacts)
        (staging / EXTRA).mkdir(exist_ok=True)
        (staging / MANIFEST).write_text(sealed.to_json(), encoding="utf-8")
        _sync_tree(staging)
        return sealed

    def publish(self, model: str, job_id: str, token: int, number: int) -> Path:
        """Give a sealed staging folder its number, by one rename; return the version's folder.

        It may be called again after a crash at any point: a version that this job already holds is
        returned as it is.

        Raises:
            StoreError: the number belongs to another job, or the staging folder is absent or not sealed.
        """
        version = self._version(model, number)
        if not version.exists():
            staging = self._staging(model, job_id, token)
            _check_sealed(staging, model, job_id)
            try:
                staging.rename(version)
            except OSError as error:
                if not version.exists():
                    raise StoreError(
                        f"version {number} of {model} could not get its number: {error}"
                    ) from error
        # Ours, whether just now or by an attempt before; else somebody else's.
        if (holder := _read_manifest(version).job_id) != job_id:
            raise StoreError(f"version {number} of {model} belongs to job {holder}. Received: job {job_id}")
        _sync(version.parent)
        _sync(self.root)
        return version

    def collect(self, model: str, job_id: str) -> list[Path]:
        """Remove every staging folder of a finished job and return what was removed."""
        folder = self._model(model)
        leftovers = (*folder.glob(".staging-*"), *folder.glob(f"{REMOVED}.staging-*"))
        stale = [path for path in sorted(leftovers) if _staged_by(path) == job_id]
        for path in stale:
            # Renamed first: who has just found it whole must not publish what is left of it. Two workers may
            # collect at once: whatever the other one has renamed or removed is as good as removed.
            aside = path if path.name.startswith(REMOVED) else path.with_name(f"{REMOVED}{path.name}")
            with contextlib.suppress(OSError):
                path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        return stale

    def withdraw(self, model: str, job_id: str, number: int) -> bool:
        """Remove a version that its job never came to publish; False if the number holds none of that job's.

        It leaves its place by one rename, so a server never sees half of it.
        """
        version = self._version(model, number)
        if not version.exists() or _read_manifest(version).job_id != job_id:
            return False
        aside = self._staging(model, job_id, 0)
        version.rename(aside)
        _sync(version.parent)
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def staged(self) -> list[tuple[str, str]]:
        """Return the model and the job of every staging folder, whoever left it."""
        folders = sorted((*self.root.glob("*/.staging-*"), *self.root.glob(f"*/{REMOVED}.staging-*")))
        return [(path.parent.name, job_id) for path in folders if (job_id := _staged_by(path))]

    def versions(self, model: str) -> list[int]:
        """Return the published numbers of a model, ascending; none for a model without a folder."""
        folder = self._model(model)
        return sorted(
            int(path.parent.name) for path in folder.glob(f"*/{SAVED_MODEL}") if _is_number(path.parent.name)
        )

    def manifest(self, model: str, number: int) -> Manifest:
        """Return the manifest of a published version."""
        return _read_manifest(self._published(model, number))

    def verify(self, model: str, number: int) -> list[str]:
        """Return the names of files that are not what the manifest says: changed, missing, or added."""
        version = self._published(model, number)
        recorded = _read_manifest(version).files
        present = {name: path for name, path in _files(version) if name != MANIFEST.as_posix()}
        changed = [
            name
            for name, path in present.items()
            if name not in recorded or FileDigest(*_size_and_digest(path)) != recorded[name]
        ]
        return sorted({*changed, *(recorded.keys() - present.keys())})

    def folder(self, model: str, number: int) -> Path:
        """Return where a version of this number lies, or would."""
        return self._version(model, number)

    def artifact(self, model: str, number: int, name: str) -> Path:
        """Return the file or folder of an artifact; the SavedModel's is the version itself.

        Raises:
            StoreError: there is no such version or no such artifact; the text names the valid ones.
        """
        version = self._published(model, number)
        artifacts = _read_manifest(version).artifacts
        for artifact in artifacts:
            if artifact.get("name") == name:
                return _inside(version, str(artifact["path"]))
        added = {record["name"]: record for record in self._additions(model, number)}
        if name in added:
            return _inside(self._beside(model, number) / name, str(added[name]["path"]))
        valid = ", ".join([*(str(artifact.get("name")) for artifact in artifacts), *added]) or "none"
        raise StoreError(f"version {number} of {model} has the artifacts {valid}. Received: {name!r}")

    def seal_additions(
        self, staging: Path, job_id: str, artifacts: Sequence[Mapping[str, object]]
    ) -> list[Mapping[str, object]]:
        """Measure staged artifacts that are to be added to a version, and bring all of it to the disk.

        Each goes with its record to a folder of its own in `staging`; the records are returned.

        Raises:
            StoreError: an artifact has no file.
        """
        sealed: list[Mapping[str, object]] = []
        for artifact in artifacts:
            measured = {**_measured(staging, artifact), "job_id": job_id}
            content = staging / str(artifact["path"])
            folder = staging / str(artifact["name"])
            folder.mkdir()
            content.rename(folder / content.name)
            measured["path"] = content.name
            (folder / RECORD).write_text(json.dumps(measured, indent=1), encoding="utf-8")
            _sync_tree(folder)
            sealed.append(measured)
        return sealed

    def add(
        self, model: str, number: int, job_id: str, token: int, names: Sequence[str]
    ) -> list[Mapping[str, Any]]:
        """Give sealed artifacts their place beside a published version, each by one rename; their records.

        It may be called again after a crash at any point: what this job has there already stays.

        Raises:
            StoreError: an artifact of that name was added by another job, or is neither staged nor there.
        """
        self._published(model, number)
        beside = self._beside(model, number)
        beside.mkdir(parents=True, exist_ok=True)
        records = []
        for name in names:
            target = beside / name
            if not target.exists():
                try:
                    (self._staging(model, job_id, token) / name).rename(target)
                except OSError as error:
                    raise StoreError(f"artifact {name!r} of {model} could not be added: {error}") from error
            record = _read_record(target)
            if record["job_id"] != job_id:
                raise StoreError(
                    f"version {number} of {model} has an artifact {name!r} of job {record['job_id']}. "
                    f"Received: job {job_id}"
                )
            records.append(record)
        for folder in (beside, *beside.parents[:2]):
            _sync(folder)
        return records

    def write_models_config(
        self, models: Mapping[str, ServedModel], served_root: PurePath | None = None
    ) -> Path:
        """Replace `<root>/models.config` in one step if it says something else; no models give an empty list.

        `served_root` is the root as the server sees it, where that differs (a container's mount).
        """
        root = served_root or self.root
        entries = [
            models_config.Entry(
                name=name,
                base_path=str(root / self._model(name).name),
                versions=tuple(sorted(served.versions)) if served.versions is not None else None,
                labels=dict(sorted(served.labels.items())),
            )
            for name, served in sorted(models.items())
        ]
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / MODELS_CONFIG
        text = models_config.render(entries)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return path
        draft = path.with_name(f".{MODELS_CONFIG}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
        draft.replace(path)
        _sync(self.root)
        return path

    def _model(self, model: str) -> Path:
        if not NAME.fullmatch(model):
            raise StoreError(f"a model's name matches {NAME.pattern}. Received: {model!r}")
        return _inside(self.root, model)

    def _version(self, model: str, number: int) -> Path:
        if number < 1:
            raise StoreError(f"versions are numbered from 1. Received: {number}")
        return self._model(model) / str(number)

    def _published(self, model: str, number: int) -> Path:
        version = self._version(model, number)
        if not (version / SAVED_MODEL).is_file():
            numbers = ", ".join(map(str, self.versions(model))) or "none"
            raise StoreError(f"{model} has the versions {numbers}. Received: {number}")
        return version

    def _beside(self, model: str, number: int) -> Path:
        """Where artifacts lie that were added to a version."""
        return self.root / ADDED / self._model(model).name / str(number)

    def _additions(self, model: str, number: int) -> Iterator[Mapping[str, Any]]:
        for path in sorted(self._beside(model, number).glob(f"*/{RECORD}")):
            yield _read_record(path.parent)

    def _staging(self, model: str, job_id: str, token: int) -> Path:
        if not _JOB_ID.fullmatch(job_id):
            raise StoreError(f"a job's id matches {_JOB_ID.pattern}. Received: {job_id!r}")
        if token < 0:
            raise StoreError(f"a token is 0 or more. Received: {token}")
        return self._model(model) / f".staging-{job_id}-{token}"


def _inside(folder: Path, relative: str) -> Path:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{relative!r} leads out of {folder.name}")
    return path


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _staged_by(path: Path) -> str | None:
    match = _STAGING.fullmatch(path.name)
    return match["job_id"] if match else None


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise StoreError(f"a version holds plain files and folders only. Received: {name}")
        if path.is_file():
            yield name, path


def _size_and_digest(path: Path) -> tuple[int, str]:
    sha256, size_bytes = archive.digest(path)
    return size_bytes, sha256


def _measured(staging: Path, artifact: Mapping[str, object]) -> Mapping[str, object]:
    path = _inside(staging, str(artifact["path"]))
    if not path.exists():
        raise StoreError(f"artifact {artifact.get('name')!r} has no file at {artifact['path']}")
    if "sha256" in artifact and "size_bytes" in artifact:
        return artifact
    sha256, size_bytes = archive.digest(path)
    return {"size_bytes": size_bytes, "sha256": sha256, **artifact}


def _read_manifest(version: Path) -> Manifest:
    try:
        text = (version / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(
            f"{version.parent.name}/{version.name} has no readable manifest: {error}"
        ) from error
    return Manifest.from_json(text)


def _read_record(added: Path) -> Mapping[str, Any]:
    try:
        record: Mapping[str, Any] = json.loads((added / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"added artifact {added.name} has no readable record: {error}") from error
    return record


def _check_sealed(staging: Path, model: str, job_id: str) -> None:
    if not (staging / MANIFEST).is_file():
        raise StoreError(f"{staging.name} of {model} is absent or not sealed, so it can't be published")
    manifest = _read_manifest(staging)
    if (manifest.model, manifest.job_id) != (model, job_id):
        raise StoreError(
            f"{staging.name} was sealed for job {manifest.job_id} of {manifest.model}. "
            f"Received: job {job_id} of {model}"
        )
    # Sizes alone: the digests were taken when it was sealed, and reading gigabytes twice would tell no more.
    present = {name: path.stat().st_size for name, path in _files(staging) if name != MANIFEST.as_posix()}
    if present != {name: entry.size_bytes for name, entry in manifest.files.items()}:
        raise StoreError(f"{staging.name} of {model} changed after it was sealed")


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
