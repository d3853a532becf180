"""What a job is: its spec, its kinds, its states and the moves between them. Pure data, no I/O."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from exporter.entries import ExportEntry, with_saved_model
from trainer.spec import SpecModel, TrainSpec

MODEL_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
LABEL_KEY = r"^[A-Za-z0-9._/-]{1,63}$"
LABEL_VALUE = r"^[^\x00-\x1f\x7f-\x9f]{0,255}$"  # no control characters
ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]


class Kind(StrEnum):
    """What a row asks for."""

    TRAIN = "train"
    """Fit, export, prove and publish one version."""
    FETCH = "fetch"
    """Bring what a URI names into the data root, or take the digest of what stays in place."""
    INGEST = "ingest"
    """Read a file once: its kind, schema and statistics."""
    EVALUATE = "evaluate"
    """Score a published version on a data set."""
    EXPORT = "export"
    """Add artifacts to a published version, proven like those that it came with."""
    INSPECT = "inspect"
    """Say what a model is, layer by layer, without training it."""
    VALIDATE = "validate"
    """Try a training job dry: everything that can be told of it before training."""

    @property
    def slot(self) -> SlotKind:
        """The kind of slot that can run it."""
        if self is Kind.FETCH:
            return SlotKind.FETCH
        return SlotKind.DEVICE if self in LISTED_KINDS else SlotKind.SHORT


LISTED_KINDS = (Kind.TRAIN, Kind.EVALUATE, Kind.EXPORT)
"""The kinds that GET /v1/jobs shows unless asked for others; a short row's answer is its result."""


class SlotKind(StrEnum):
    """What a worker can run side by side."""

    DEVICE = "device"
    """Long work on a set of devices."""
    SHORT = "short"
    """Work of seconds on one CPU child, which never waits behind training."""
    FETCH = "fetch"
    """Minutes of waiting for a network or a disk, which short work never waits behind."""


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Committed, waiting for a slot."""
    RUNNING = "running"
    """A worker holds its lease."""
    CANCELLING = "cancelling"
    """Told to stop; the worker that holds it has not let go yet."""
    SUCCEEDED = "succeeded"
    """Done: what it made is published."""
    FAILED = "failed"
    """Ended with an error, which it carries."""
    CANCELLED = "cancelled"
    """Ended because somebody said so."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    Status.RUNNING: frozenset(
        {Status.QUEUED, Status.CANCELLING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
    ),
    # A cancel can lose the race to success.
    Status.CANCELLING: frozenset({Status.QUEUED, Status.CANCELLED, Status.SUCCEEDED, Status.FAILED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Phase(StrEnum):
    """What a running job is doing."""

    STARTING = "starting"
    LOADING_DATA = "loading_data"
    TRAINING = "training"
    EVALUATING = "evaluating"
    EXPORTING = "exporting"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"


class EventKind(StrEnum):
    """What an event tells; also the `event` field of the stream."""

    STATUS = "status"
    """The status or phase moved."""
    PROGRESS = "progress"
    """Where training stands within the epoch, at most one a second; or how the data pipeline keeps up."""
    METRIC = "metric"
    """A point of the learning curves: the metrics at an epoch's end."""
    LOG = "log"
    """A sentence for people."""
    VERSION = "version"
    """A version was published."""


class Limits(SpecModel):
    """Bounds of one job; each that is overrun ends it with a code of its own."""

    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Attempts that may end by themselves without a new checkpoint: poisoned, "
        "or the code of a failure that more attempts didn't mend.",
    )
    max_runtime_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds it may run, all attempts: runtime_exceeded."
    )
    max_pending_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds it may wait for its first slot: pending_exceeded.",
    )
    memory_bytes: int | None = Field(
        None,
        gt=0,
        lt=2**63,
        description="Resident memory of an attempt's processes, watched twice a second: out_of_memory.",
    )


class RowOptions(SpecModel):
    """What every job that is listed can be given: bounds, a place in the queue, words to find it by."""

    limits: Limits = Field(default_factory=Limits)
    priority: int = Field(0, ge=-100, le=100, description="Larger goes first.")
    labels: dict[
        Annotated[str, StringConstraints(pattern=LABEL_KEY)],
        Annotated[str, StringConstraints(pattern=LABEL_VALUE)],
    ] = Field(default_factory=dict, max_length=32, description="Words of your own to find the job by.")


class JobSpec(TrainSpec, RowOptions):
    """What somebody asks for with POST /v1/jobs: a training spec, the model's name, and what to export."""

    kind: Literal["train"] = Field("train", description="The kind of work.")
    name: ModelName = Field(
        description="The model's name; every job of this name publishes its next version."
    )
    export: tuple[ExportEntry, ...] = Field(
        (), max_length=16, description="Artifacts to make and prove; saved_model is always made."
    )
    allow_signature_change: bool = Field(
        False,
        strict=True,
        description="Publish though the model takes or gives other tensors than its present version.",
    )

    @field_validator("export")
    @classmethod
    def _exports_agree(cls, export: tuple[ExportEntry, ...]) -> tuple[ExportEntry, ...]:
        with_saved_model(export)  # two artifacts of one name, or two SavedModels, are refused there
        return export


@dataclass(frozen=True)
class NewJob:
    """A row to be inserted."""

    kind: Kind
    spec: Mapping[str, Any]
    name: str | None = None
    priority: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_digest: str | None = None
    datasets: Mapping[str, str] = field(
        default_factory=dict
    )  # ids by use: all must be ready before it starts
    seed: int | None = None
    limits: Limits = field(default_factory=Limits)
    id: str = field(default_factory=lambda: new_id("job"))


@dataclass(frozen=True)
class Transition:
    """A dated move from one status to the next."""

    status: Status
    attempt: int
    reason: str
    at: float


@dataclass(frozen=True)
class Job:
    """What is recorded of a job. Times are seconds since the epoch, UTC."""

    id: str
    seq: int
    kind: Kind
    name: str | None
    status: Status
    phase: str | None
    priority: int
    spec: Mapping[str, Any]
    spec_digest: str
    dataset_id: str | None
    dataset_digest: str | None
    seed: int | None
    labels: Mapping[str, str]
    token: int
    owner: str | None
    attempt: int
    max_attempts: int
    max_runtime_s: float | None
    memory_bytes: int | None
    ran_s: float  # by the attempts before the present one
    deaths: int  # attempts that ended by themselves without a new checkpoint
    cancel_requested: bool
    last_event: int
    progress: Mapping[str, Any] | None
    pipeline: Mapping[str, Any] | None  # the newest diagnosis
    metrics: Mapping[str, Any] | None
    resources: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True)
class Event:
    """One numbered thing that happened to a job."""

    n: int
    kind: EventKind
    attempt: int
    data: Mapping[str, Any]
    at: float


def digest_of(document: object) -> str:
    """`sha256:<hex>` of the document's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def new_id(prefix: str) -> str:
    """An id that nobody can guess: the prefix and 80 random bits."""
    return f"{prefix}_{secrets.token_hex(10)}"
