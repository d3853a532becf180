"""From a body to a row that adds artifacts to a published version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator

from exporter.entries import ExportEntry, further
from service.errors import Fault, NotFoundError, SpecRefusedError
from service.jobs import Kind, NewJob, RowOptions
from service.pointers import faults_of
from trainer.spec import Data, SpecModel

if TYPE_CHECKING:  # the child reads the spec here too, and knows no database
    from service.records import PublishedVersion, Records
    from serving.store import Store

Entries = Annotated[
    tuple[ExportEntry, ...],
    Field(min_length=1, max_length=16, description="Artifacts to make, prove and keep beside the version."),
]


class ExportBody(RowOptions):
    """What is added to a version: entries as in a job's `export`."""

    export: Entries

    @field_validator("export")
    @classmethod
    def _can_be_added(cls, export: tuple[ExportEntry, ...]) -> tuple[ExportEntry, ...]:
        return further(export)


class ExportSpec(SpecModel):
    """The row's spec: of which version, and by which rows its artifacts are proven."""

    model: str
    version: int
    export: Entries
    data: Data
    seed: int


def new_export(body: object, version: PublishedVersion, records: Records, store: Store) -> NewJob:
    """The row that this body asks for.

    Raises:
        SpecRefusedError: with every error of the body, each with its JSON pointer.
        NotFoundError: the version doesn't say how it was trained, or its data set is gone.
    """
    if not isinstance(body, Mapping):
        raise SpecRefusedError([Fault("", "expected an object with export")])
    try:
        asked = ExportBody.model_validate(body)
    except ValidationError as error:
        raise SpecRefusedError(faults_of(error, body, ExportBody)) from error
    if faults := [*_taken(asked, version)]:
        raise SpecRefusedError(faults)
    trained = trained_by(version, store)
    job = records.jobs.get(version.job_id)
    uses = {} if job is None else {use: each.id for use, each in records.datasets.used_by(job.id).items()}
    dataset_id = None if job is None else job.dataset_id
    there = dataset_id is not None and records.datasets.get(dataset_id) is not None
    if not there and trained["data"]["kind"] != "inline":
        raise NotFoundError(
            f"the data set that version {version.number} of {version.model} was trained on is gone, "
            "and artifacts are proven by its rows: train the version again"
        )
    return NewJob(
        kind=Kind.EXPORT,
        spec={
            "model": version.model,
            "version": version.number,
            "export": [entry.model_dump(mode="json") for entry in asked.export],
            "data": trained["data"],
            "seed": trained["seed"],
        },
        name=version.model,
        priority=asked.priority,
        labels=asked.labels,
        dataset_id=dataset_id,
        dataset_digest=version.manifest["data_digest"] or None,
        datasets=uses,
        limits=asked.limits,
    )


def trained_by(version: PublishedVersion, store: Store) -> dict[str, Any]:
    """The spec that the version was trained by.

    Raises:
        NotFoundError: it keeps none.
    """
    from serving.errors import StoreError

    try:
        spec: dict[str, Any] = json.loads(store.artifact(version.model, version.number, "spec").read_text())
    except (StoreError, FileNotFoundError) as error:
        which = f"version {version.number} of {version.model}"
        raise NotFoundError(f"{which} keeps no record of how it was trained: train it again") from error
    return spec


def _taken(asked: ExportBody, version: PublishedVersion) -> Iterator[Fault]:
    there = [artifact["name"] for artifact in version.manifest["artifacts"]]
    for index, entry in enumerate(asked.export):
        if entry.name in there:
            detail = f"the version has an artifact {entry.name!r} already; give this one another `name`"
            yield Fault(f"/export/{index}", detail)
