"""From a body to a row: what is pure data is checked here, whole, before anything is queued."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from service.bases import resolved
from service.errors import Fault, SpecRefusedError
from service.jobs import JobSpec, Kind, NewJob
from service.plugins import plugin_faults
from service.pointers import faults_of, pointer_of
from service.records import Dataset, Records
from service.records.datasets import DatasetRecords
from trainer.architecture import PLUGIN
from trainer.source import DataOptions, sources

SCHEME = "dataset://"


def new_training_job(body: object, records: Records) -> NewJob:
    """The row that this body asks for: its data set resolved to id and digest, its seed drawn if it has none.

    Raises:
        SpecRefusedError: with every error of the body, each with its JSON pointer.
    """
    dataset, faults = data_of(body, records.datasets)
    body, model_faults = model_of(body, records)
    faults += model_faults
    try:
        spec = JobSpec.model_validate(body)
    except ValidationError as error:
        # What can be told of the data set is told with the rest, where the body is sound enough to name it.
        raise SpecRefusedError([*faults_of(error, body, JobSpec), *faults]) from error
    if faults:
        raise SpecRefusedError(faults)
    dataset_id, digest = identity_of(spec.data, dataset)
    return NewJob(
        kind=Kind.TRAIN,
        spec=cast(Mapping[str, Any], body),  # as it was asked, but a version with its number
        name=spec.name,
        priority=spec.priority,
        labels=spec.labels,
        dataset_id=dataset_id,
        dataset_digest=digest,
        # Keras takes 32 bits.
        seed=spec.seed if spec.seed is not None else secrets.randbelow(2**31),
        limits=spec.limits,
    )


def model_of(body: object, records: Records) -> tuple[object, list[Fault]]:
    """The body with its model resolved by what the records know, which versions and plugins there are.

    And what is wrong with the model as far as only they can tell.
    """
    model = body.get("model") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(model, Mapping):
        return body, []
    if model.get("kind") == PLUGIN:
        return body, plugin_faults(model, records.workers.present())
    return resolved(body, records.versions)


def identity_of(data: DataOptions, dataset: Dataset | None) -> tuple[str | None, str]:
    """The id, if there is one, and the digest of the rows that a sound body names or holds."""
    if data.held is not None:
        return None, f"sha256:{data.held.digest}"
    assert dataset is not None
    return dataset.id, dataset.digest


def data_of(body: object, datasets: DatasetRecords) -> tuple[Dataset | None, list[Fault]]:
    """The data set that the body names, and what is wrong with it or with the columns asked of it."""
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, Mapping):
        return None, []
    uri = data.get("uri")
    if not isinstance(uri, str):
        return None, _faults_within(data)
    if not uri.startswith(SCHEME):
        detail = f"upload the file and name it as {SCHEME}<id or name>. Received: {uri!r}"
        return None, [Fault("/data/uri", detail)]
    dataset = datasets.find(uri.removeprefix(SCHEME))
    if dataset is None:
        known = uri.removeprefix(SCHEME)
        return None, [Fault("/data/uri", f"there is no data set {known!r}; POST /v1/datasets makes one")]
    if dataset.status == "failed":
        detail = (dataset.error or {}).get("detail", "it can't be read")
        detail = f"data set {dataset.name or dataset.id} can't be used: {detail}"
        return dataset, [Fault("/data/uri", detail)]
    return dataset, _faults_with(data, dataset)


def _faults_within(data: Mapping[str, Any]) -> list[Fault]:
    """What is wrong between rows that the body holds and the columns that it names."""
    rows = data.get("rows")
    if not isinstance(rows, list):
        return []
    present = {str(name): None for row in rows if isinstance(row, Mapping) for name in row}
    return _column_faults(data, list(present), "data.rows")


def _faults_with(data: Mapping[str, Any], dataset: Dataset) -> list[Fault]:
    """What is wrong between a data set and what the body says of it, as far as the data set was read."""
    if dataset.status != "ready" or dataset.schema is None:
        return []  # the job itself will tell
    faults = _kind_faults(data, dataset)
    source = sources().get(str(data.get("kind")))
    if source is not None and not source.Options.reads_by.isdisjoint(data):
        return faults  # read so, the file has other columns than those recorded
    present = [column["name"] for column in dataset.schema["columns"]]
    return [*faults, *_column_faults(data, present, f"data set {dataset.name or dataset.id}")]


def _kind_faults(data: Mapping[str, Any], dataset: Dataset) -> list[Fault]:
    if data.get("kind") == dataset.kind:
        return []
    return [Fault("/data/kind", f"data set {dataset.name or dataset.id} is of kind {dataset.kind!r}")]


def _column_faults(data: Mapping[str, Any], present: list[str], where: str) -> list[Fault]:
    return [
        Fault(pointer_of(["data", *path]), f"column {name!r} is not in {where}; it has {_some(present)}")
        for path, name in _named_columns(data)
        if name not in present
    ]


def _named_columns(data: Mapping[str, Any]) -> list[tuple[list[str | int], str]]:
    """Every column the data section names, with its place: a name, a list, or a mapping to either."""
    found: list[tuple[list[str | int], str]] = []

    def walk(path: list[str | int], value: object) -> None:
        if isinstance(value, str):
            found.append((path, value))
        elif isinstance(value, list):
            for index, each in enumerate(value):
                walk([*path, index], each)
        elif isinstance(value, Mapping):
            for key, each in value.items():
                walk([*path, str(key)], each)

    walk(["features"], data.get("features"))
    walk(["label"], data.get("label"))
    walk(["sample_weight"], data.get("sample_weight"))
    columns = data.get("columns")
    if isinstance(columns, Mapping):
        found += [(["columns", str(name)], str(name)) for name in columns]
    return found


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
