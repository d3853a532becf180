"""The bodies that the API answers with, and how records become them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from service.errors import Fault, SpecRefusedError
from service.jobs import MODEL_NAME, Event, Job, Transition
from service.records import Dataset, PublishedVersion, QueuePlace
from service.uris import redacted

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list, in a stable order."""

    data: list[Item]
    has_more: bool
    next: str | None = Field(description="Opaque cursor: give it as `after` to read on.")


class TransitionBody(BaseModel):
    """A dated move of the status."""

    status: str
    attempt: int
    reason: str
    at: str


class QueueBody(BaseModel):
    """Where a waiting job stands: position 1 goes next."""

    position: int
    priority: int


class JobBody(BaseModel):
    """A job as recorded."""

    id: str
    name: str | None
    kind: str
    status: str
    phase: str | None
    error: dict[str, Any] | None = Field(description="code, detail, retryable, remedy and location.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    estimated_finish_at: str | None
    progress: dict[str, Any] | None = Field(description="epoch, epochs, step, steps_per_epoch, fraction.")
    queue: QueueBody | None
    attempt: int
    max_attempts: int
    seed: int | None
    spec: dict[str, Any]
    spec_digest: str
    dataset_id: str | None
    dataset_digest: str | None
    metrics: dict[str, Any] | None = Field(description="last and best of the learning curves, and test.")
    resources: dict[str, Any] | None
    pipeline: dict[str, Any] | None = Field(
        description="How the data pipeline keeps up with training: a verdict, advice, and what was measured."
    )
    result: dict[str, Any] | None = Field(description="model, version and artifacts of a succeeded job.")
    labels: dict[str, str]
    transitions: list[TransitionBody]


class EventBody(BaseModel):
    """One event; `id` counts from 1 without gaps."""

    id: int
    event: str
    created_at: str
    attempt: int
    data: dict[str, Any]


class DatasetBody(BaseModel):
    """A data set and what was found in it."""

    id: str
    name: str | None
    uri: str | None = Field(description="Where it comes from, without its secrets; null for an upload.")
    digest: str | None = Field(description="sha256 of the content; null until it was fetched.")
    size_bytes: int | None
    filename: str
    kind: str | None
    status: str = Field(description="pending, ready or failed.")
    schema_: dict[str, Any] | None = Field(serialization_alias="schema")
    statistics: dict[str, Any] | None
    anomalies: list[dict[str, Any]] | None = Field(
        description="What looks wrong: code, column, row (from 1, the header not counted) and detail."
    )
    error: dict[str, Any] | None
    created_at: str


class ModelBody(BaseModel):
    """A model, its published versions, newest first, and which of them each alias means."""

    name: str
    latest: int
    versions: list[int]
    aliases: dict[str, int]


class ServingBody(BaseModel):
    """What TensorFlow Serving says of a version."""

    state: str = Field(description="AVAILABLE, LOADING, ..., UNKNOWN (not listed) or UNREACHABLE.")
    checked_at: str
    error: str | None


class VersionBody(BaseModel):
    """A published version."""

    model: str
    version: int
    aliases: list[str]
    job_id: str
    created_at: str
    metrics: dict[str, Any]
    signature: dict[str, Any]
    artifacts: list[dict[str, Any]]
    spec_digest: str
    data_digest: str
    libraries: dict[str, str]
    serving: ServingBody
    urls: dict[str, str]


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601, UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(seconds: float) -> str:
    text = iso(seconds)
    assert text is not None
    return text


def job_body(job: Job, transitions: list[Transition], place: QueuePlace | None) -> JobBody:
    """The job as the API shows it."""
    progress = dict(job.progress) if job.progress else None
    estimate = progress.pop("estimated_finish_at", None) if progress else None
    return JobBody(
        id=job.id,
        name=job.name,
        kind=job.kind.value,
        status=job.status.value,
        phase=job.phase,
        error=dict(job.error) if job.error else None,
        created_at=_date(job.created_at),
        started_at=iso(job.started_at),
        finished_at=iso(job.finished_at),
        estimated_finish_at=None if job.status.is_terminal else estimate,
        progress=progress,
        queue=QueueBody(position=place.position, priority=place.priority) if place else None,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        seed=job.seed,
        spec=dict(job.spec),
        spec_digest=job.spec_digest,
        dataset_id=job.dataset_id,
        dataset_digest=job.dataset_digest,
        metrics=dict(job.metrics) if job.metrics else None,
        resources=dict(job.resources) if job.resources else None,
        pipeline=dict(job.pipeline) if job.pipeline else None,
        result=dict(job.result) if job.result else None,
        labels=dict(job.labels),
        transitions=[
            TransitionBody(
                status=each.status.value, attempt=each.attempt, reason=each.reason, at=_date(each.at)
            )
            for each in transitions
        ],
    )


def event_body(event: Event) -> EventBody:
    """The event as the API shows it."""
    return EventBody(
        id=event.n,
        event=event.kind.value,
        created_at=_date(event.at),
        attempt=event.attempt,
        data=dict(event.data),
    )


def dataset_body(dataset: Dataset) -> DatasetBody:
    """The data set as the API shows it."""
    return DatasetBody(
        id=dataset.id,
        name=dataset.name,
        uri=None if dataset.uri is None else redacted(dataset.uri),
        digest=dataset.digest,
        size_bytes=dataset.size_bytes,
        filename=dataset.filename,
        kind=dataset.kind,
        status=dataset.status,
        schema_=dict(dataset.schema) if dataset.schema else None,
        statistics=None if dataset.statistics is None else dict(dataset.statistics),
        anomalies=None if dataset.anomalies is None else [dict(each) for each in dataset.anomalies],
        error=dict(dataset.error) if dataset.error else None,
        created_at=_date(dataset.created_at),
    )


def version_body(
    version: PublishedVersion, aliases: list[str], serving: ServingBody, urls: dict[str, str]
) -> VersionBody:
    """The version as the API shows it."""
    manifest = version.manifest
    return VersionBody(
        model=version.model,
        version=version.number,
        aliases=aliases,
        job_id=version.job_id,
        created_at=_date(version.published_at),
        metrics=manifest["metrics"],
        signature=manifest["signature"],
        artifacts=list(manifest["artifacts"]),
        spec_digest=manifest["spec_digest"],
        data_digest=manifest["data_digest"],
        libraries=manifest["libraries"],
        serving=serving,
        urls=urls,
    )


def cursor_of(value: int | str) -> str:
    """An opaque cursor for the last item of a page."""
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def name_after(cursor: str | None) -> str:
    """The name in the cursor; without one, what comes before every name.

    Raises:
        SpecRefusedError: it is no cursor of this list.
    """
    return "" if cursor is None else _inside(cursor, MODEL_NAME)


def sequence_after(cursor: str | None) -> int | None:
    """The submission number in the cursor.

    Raises:
        SpecRefusedError: it is no cursor of this list.
    """
    return None if cursor is None else int(_inside(cursor, r"[0-9]{1,18}"))


def _inside(cursor: str, pattern: str) -> str:
    """What `cursor_of` was given, where it has the form of this list's cursors."""
    try:
        value = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        value = ""
    if not re.fullmatch(pattern, value):
        raise SpecRefusedError([Fault("/after", "not a cursor of this list; take it from `next`")])
    return value
