"""What the server answered, as frozen values; `.raw` keeps the whole document, unknown fields included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

Document = Mapping[str, Any]  # JSON as it came: its values are of any JSON type


class JobStatus(StrEnum):
    """The states of a job; a status of a newer server stays the plain string it is."""

    QUEUED = "queued"  # waits for a free slot
    RUNNING = "running"  # an attempt has it; `phase` says where it is
    CANCELLING = "cancelling"  # asked to stop; may still win the race and succeed
    SUCCEEDED = "succeeded"  # its version is published
    FAILED = "failed"  # `error` says why and what to do
    CANCELLED = "cancelled"  # stopped as asked; nothing was published


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True)
class Progress:
    """How far an attempt is; epochs and steps count from 1, `fraction` is 0 to 1."""

    epoch: int | None
    epochs: int | None
    step: int | None
    steps_per_epoch: int | None
    fraction: float | None

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read the `progress` object of a job or the data of a progress event."""
        return cls(
            **{name: raw.get(name) for name in ("epoch", "epochs", "step", "steps_per_epoch", "fraction")}
        )


@dataclass(frozen=True)
class JobError:
    """Why a job failed: a stable code, what happened, and the remedy."""

    code: str
    detail: str
    retryable: bool
    remedy: str | None
    location: Document | None
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read the `error` object of a job."""
        return cls(
            code=str(raw.get("code", "internal")),
            detail=str(raw.get("detail", "")),
            retryable=bool(raw.get("retryable", False)),
            remedy=raw.get("remedy"),
            location=raw.get("location"),
            raw=raw,
        )


@dataclass(frozen=True)
class Artifact:
    """One export of a version, with the proof that it equals the trained model."""

    name: str
    format: str
    size_bytes: int | None
    sha256: str | None
    max_abs_diff: float | None
    """The largest difference from the trained model in any output; None where nothing is predicted."""
    latency_ms: Mapping[int, float]
    """The median time of one call in the artifact's own runtime, by rows a call."""
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read one entry of `artifacts`."""
        return cls(
            name=str(raw["name"]),
            format=str(raw.get("format", raw["name"])),
            size_bytes=raw.get("size_bytes"),
            sha256=raw.get("sha256"),
            max_abs_diff=(raw.get("parity") or {}).get("max_abs_diff"),
            latency_ms={
                int(rows): float(figures["median"]) for rows, figures in (raw.get("latency_ms") or {}).items()
            },
            raw=raw,
        )


@dataclass(frozen=True)
class JobResult:
    """What a successful job published."""

    model: str | None
    version: int | None
    artifacts: tuple[Artifact, ...]
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read the `result` object of a job."""
        return cls(
            model=raw.get("model"),
            version=raw.get("version"),
            artifacts=tuple(Artifact.of(each) for each in raw.get("artifacts") or ()),
            raw=raw,
        )


@dataclass(frozen=True)
class Job:
    """A job as recorded at the moment of the answer."""

    id: str
    name: str | None
    kind: str
    status: str
    phase: str | None
    error: JobError | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish_at: datetime | None
    progress: Progress | None
    attempt: int | None
    metrics: Document
    pipeline: Document | None
    """How the data pipeline keeps up with training, once that was measured: `verdict`, `advice`, figures."""
    result: JobResult | None
    raw: Document

    @property
    def is_finished(self) -> bool:
        """Whether the status is one that never changes again."""
        return self.status in TERMINAL

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read a job's body."""
        return cls(
            id=str(raw["id"]),
            name=raw.get("name"),
            kind=str(raw.get("kind", "train")),
            status=str(raw["status"]),
            phase=raw.get("phase"),
            error=JobError.of(raw["error"]) if raw.get("error") else None,
            created_at=_time(raw.get("created_at")),
            started_at=_time(raw.get("started_at")),
            finished_at=_time(raw.get("finished_at")),
            estimated_finish_at=_time(raw.get("estimated_finish_at")),
            progress=Progress.of(raw["progress"]) if raw.get("progress") else None,
            attempt=raw.get("attempt"),
            metrics=raw.get("metrics") or {},
            pipeline=raw.get("pipeline"),
            result=JobResult.of(raw["result"]) if raw.get("result") else None,
            raw=raw,
        )


@dataclass(frozen=True)
class Event:
    """One numbered thing that happened to a job: status, progress, metric, log or version."""

    id: int
    kind: str
    data: Document

    @property
    def is_last(self) -> bool:
        """Whether it says that the job is finished, after which no event comes."""
        return self.kind == "status" and self.data.get("status") in TERMINAL


@dataclass(frozen=True)
class Dataset:
    """A data set; `status` is pending until a worker has read it, then ready or failed."""

    id: str
    name: str | None
    uri: str | None
    """Where it was fetched from, without secrets; None for an upload."""
    digest: str | None
    size_bytes: int | None
    kind: str | None
    status: str
    schema: Document | None
    anomalies: tuple[Document, ...]
    """What looks wrong in it: `column`, `row` (from 1, the header not counted) and `detail`."""
    error: Document | None
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read a data set's body."""
        return cls(
            id=str(raw["id"]),
            name=raw.get("name"),
            uri=raw.get("uri"),
            digest=raw.get("digest"),
            size_bytes=raw.get("size_bytes"),
            kind=raw.get("kind"),
            status=str(raw.get("status", "ready")),
            schema=raw.get("schema"),
            anomalies=tuple(raw.get("anomalies") or ()),
            error=raw.get("error"),
            raw=raw,
        )


@dataclass(frozen=True)
class Model:
    """A model's name and the numbers of its published versions, in ascending order."""

    name: str
    versions: tuple[int, ...]
    latest: int | None
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read one entry of the list of models."""
        numbers = sorted(
            int(each["version"] if isinstance(each, Mapping) else each) for each in raw.get("versions") or ()
        )
        latest = raw.get("latest")
        return cls(
            name=str(raw["name"]),
            versions=tuple(numbers),
            latest=int(latest["version"] if isinstance(latest, Mapping) else latest) if latest else None,
            raw=raw,
        )


@dataclass(frozen=True)
class ServingState:
    """What serving says of a version: UNKNOWN, START, LOADING, AVAILABLE, UNLOADING, END; or UNREACHABLE."""

    state: str
    checked_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read the `serving` object of a version."""
        return cls(
            state=str(raw.get("state", "UNKNOWN")),
            checked_at=_time(raw.get("checked_at")),
            error=raw.get("error"),
        )


@dataclass(frozen=True)
class ModelVersion:
    """A published version: immutable, whole, proven."""

    model: str
    version: int
    job_id: str | None
    created_at: datetime | None
    metrics: Document
    signature: Document | None
    artifacts: tuple[Artifact, ...]
    serving: ServingState | None
    urls: Document
    raw: Document

    @classmethod
    def of(cls, raw: Document) -> Self:
        """Read a version's body."""
        return cls(
            model=str(raw["model"]),
            version=int(raw["version"]),
            job_id=raw.get("job_id"),
            created_at=_time(raw.get("created_at")),
            metrics=raw.get("metrics") or {},
            signature=raw.get("signature"),
            artifacts=tuple(Artifact.of(each) for each in raw.get("artifacts") or ()),
            serving=ServingState.of(raw["serving"]) if raw.get("serving") else None,
            urls=raw.get("urls") or {},
            raw=raw,
        )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
