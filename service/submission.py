"""From a body to a row: what is pure data is checked here, whole, before anything is queued."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from service.bases import resolved
from service.errors import Fault, SpecRefusedError
from service.jobs import JobSpec, Kind, NewJob
from service.plugins import plugin_faults
from service.pointers import faults_of, pointer_of
from service.records import Dataset, Records
from service.records.datasets import DatasetRecords
from service.sources import DATASET, known_by, made_of
from service.uris import FURTHER, MAIN, NOTHING, Allowed, UriError, place_of_uri
from trainer.architecture import PLUGIN
from trainer.source import DataOptions, sources


def new_training_job(body: object, records: Records, allowed: Allowed = NOTHING) -> NewJob:
    """The row that this body asks for: its data sets resolved to ids, its seed drawn if it has none.

    What a URI names that is allowed and not here yet becomes a data set that a worker fetches.

    Raises:
        SpecRefusedError: with every error of the body, each with its JSON pointer.
    """
    asked, faults = datasets_of(body, records.datasets, allowed)
    body, model_faults = model_of(body, records)
    faults += model_faults
    try:
        spec = JobSpec.model_validate(body)
    except ValidationError as error:
        # What can be told of the data set is told with the rest, where the body is sound enough to name it.
        raise SpecRefusedError([*faults_of(error, body, JobSpec), *faults]) from error
    if faults:
        raise SpecRefusedError(faults)
    found = {use: each.settled(records.datasets) for use, each in asked.items()}
    dataset_id, digest = identity_of(spec.data, found.get("data"))
    return NewJob(
        kind=Kind.TRAIN,
        # As it was asked, but a version with its number, and data that have no lasting name with their id.
        spec=pinned(cast(Mapping[str, Any], body), found),
        name=spec.name,
        priority=spec.priority,
        labels=spec.labels,
        dataset_id=dataset_id,
        dataset_digest=digest,
        datasets={use: dataset.id for use, dataset in found.items()},
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


def identity_of(data: DataOptions, dataset: Dataset | None) -> tuple[str | None, str | None]:
    """The id and the digest, as far as there are some yet, of the rows that a sound body names or holds."""
    if data.held is not None:
        return None, f"sha256:{data.held.digest}"
    assert dataset is not None
    return dataset.id, dataset.digest


@dataclass(frozen=True)
class Asked:
    """A data set that a body names: one that is recorded, or a URI of which none was made yet."""

    recorded: Dataset | None = None
    uri: str | None = None

    def settled(self, datasets: DatasetRecords) -> Dataset:
        """The data set as recorded; of a URI that was not fetched, or in vain, one that a worker fetches."""
        if self.uri is not None:
            return made_of(self.uri, datasets)
        assert self.recorded is not None
        return self.recorded


def datasets_of(
    body: object, datasets: DatasetRecords, allowed: Allowed = NOTHING
) -> tuple[dict[str, Asked], list[Fault]]:
    """Every data set that the body names, by its use, and what is wrong with them or their columns."""
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, Mapping):
        return {}, []
    found, faults = {}, []
    for use, section in ((MAIN, data), *((use, data.get(use)) for use in FURTHER)):
        asked, told = _one_of(use, section, data, datasets, allowed)
        faults += told
        if asked is not None:
            found[use] = asked
    return found, faults


def data_of(
    body: object, datasets: DatasetRecords, allowed: Allowed = NOTHING
) -> tuple[Asked | None, list[Fault]]:
    """The main data set that the body names, and what is wrong with it or with the columns asked of it."""
    found, faults = datasets_of(body, datasets, allowed)
    return found.get("data"), [fault for fault in faults if not _is_further(fault)]


def pinned(body: Mapping[str, Any], found: Mapping[str, Dataset]) -> dict[str, Any]:
    """The body with ids in place of URIs, whose content may change, and of the names of further sets."""
    data = dict(body["data"])
    if "data" in found and not data["uri"].startswith(DATASET):
        data["uri"] = DATASET + found["data"].id
    for use in FURTHER:
        if use in found:
            data[use] = {**data[use], "uri": DATASET + found[use].id}
    return {**body, "data": data}


def _one_of(
    use: str, section: object, data: Mapping[str, Any], datasets: DatasetRecords, allowed: Allowed
) -> tuple[Asked | None, list[Fault]]:
    uri = section.get("uri") if isinstance(section, Mapping) else None
    if not isinstance(uri, str):
        return None, _faults_within(data) if use == MAIN else []
    place = place_of_uri(use)
    asked, faults = (
        _named(uri, datasets, place) if uri.startswith(DATASET) else _by_uri(uri, datasets, allowed, place)
    )
    if asked is None or asked.recorded is None or faults:
        return asked, faults
    return asked, _faults_with(data, asked.recorded, None if use == MAIN else place)


def _named(uri: str, datasets: DatasetRecords, place: str) -> tuple[Asked | None, list[Fault]]:
    known = uri.removeprefix(DATASET)
    dataset = datasets.find(known)
    if dataset is None:
        return None, [Fault(place, f"there is no data set {known!r}; POST /v1/datasets makes one")]
    if dataset.status != "failed":
        return Asked(dataset), []
    detail = (dataset.error or {}).get("detail", "it can't be read")
    return Asked(dataset), [Fault(place, f"data set {dataset.name or dataset.id} can't be used: {detail}")]


def _by_uri(
    uri: str, datasets: DatasetRecords, allowed: Allowed, place: str
) -> tuple[Asked | None, list[Fault]]:
    try:
        allowed.check(uri)
    except UriError as error:
        return None, [Fault(place, str(error))]
    return Asked(known_by(uri, datasets), uri), []


def _is_further(fault: Fault) -> bool:
    return fault.pointer.startswith(tuple(f"/data/{use}/" for use in FURTHER))


def _faults_within(data: Mapping[str, Any]) -> list[Fault]:
    """What is wrong between rows that the body holds and the columns that it names."""
    rows = data.get("rows")
    if not isinstance(rows, list):
        return []
    present = {str(name): None for row in rows if isinstance(row, Mapping) for name in row}
    return _column_faults(data, list(present), "data.rows")


def _faults_with(data: Mapping[str, Any], dataset: Dataset, place: str | None) -> list[Fault]:
    """What is wrong between a data set and what the body says of it, as far as the data set was read.

    `place` is that of a further set, of which nothing but its own place is to blame.
    """
    if dataset.status != "ready" or dataset.schema is None:
        return []  # the job waits until it was read, and tells then
    named = f"data set {dataset.name or dataset.id}"
    faults = []
    if data.get("kind") != dataset.kind:
        faults.append(Fault(place or "/data/kind", f"{named} is of kind {dataset.kind!r}"))
    source = sources().get(str(data.get("kind")))
    if source is not None and not source.Options.reads_by.isdisjoint(data):
        return faults  # read so, the file has other columns than those recorded
    present = [column["name"] for column in dataset.schema["columns"]]
    lacking = _column_faults(data, present, named)
    if place is not None:
        lacking = [Fault(place, detail) for detail in dict.fromkeys(fault.detail for fault in lacking)]
    return [*faults, *lacking]


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
    split = data.get("split")
    if isinstance(split, Mapping):
        walk(["split", "column"], split.get("column"))
    columns = data.get("columns")
    if isinstance(columns, Mapping):
        found += [(["columns", str(name)], str(name)) for name in columns]
    return found


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
