"""Jobs: submit, look up, list, cancel."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query, Request, Response

from service.bodies import JobBody, Page, cursor_of, job_body, sequence_after
from service.context import Context, Here
from service.documents import read_document
from service.errors import (
    DatabaseUnavailableError,
    Fault,
    IllegalMoveError,
    NotFoundError,
    SpecRefusedError,
)
from service.jobs import (
    LABEL_KEY,
    LABEL_VALUE,
    LISTED_KINDS,
    MODEL_NAME,
    Job,
    Kind,
    NewJob,
    Status,
    Transition,
)
from service.problems import reads, responses
from service.records import JobFilter
from service.routes.addresses import JobId
from service.submission import new_training_job

router = APIRouter(tags=["jobs"])
LOOK_EVERY_S = 0.2

log = structlog.get_logger(__name__)


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobBody,
    openapi_extra=reads("JobSpec"),
    responses=responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY),
)
async def submit(
    request: Request,
    here: Here,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Response:
    """Take a training job: checked whole, committed, then answered; training starts when a slot is free."""
    raw = await request.body()
    job = await asyncio.to_thread(_submit, here, raw, idempotency_key)
    # Made here: FastAPI would validate once more what is of the right type already.
    return Response(
        job.model_dump_json(),
        HTTPStatus.ACCEPTED,
        {"Location": f"/v1/jobs/{job.id}", "Retry-After": "1"},
        "application/json",
    )


def _submit(here: Context, raw: bytes, idempotency_key: str | None) -> JobBody:
    if idempotency_key is not None:
        return _submit_once(here, raw, idempotency_key)
    job, place = here.records.jobs.submit(_new(here, raw))
    here.ringer.ask(job.id)
    return job_body(job, [Transition(Status.QUEUED, 0, "", job.created_at)], place)


def _new(here: Context, raw: bytes) -> NewJob:
    return new_training_job(read_document(raw), here.records, here.settings.allowed)


def _submit_once(here: Context, raw: bytes, idempotency_key: str) -> JobBody:
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    # A repeat is answered whatever has become of its data set since.
    job = here.records.jobs.repeated(idempotency_key, digest)
    if job is None:
        new = _new(here, raw)
        job = here.records.jobs.create(new, idempotency_key=idempotency_key, body_digest=digest)
        here.ringer.ask(job.id)
    try:
        return _body(here, job)
    except DatabaseUnavailableError as error:
        # The job is committed, so it is accepted; the answer does without what can't be read just now.
        log.warning("job_accepted_without_history", job_id=job.id, error=str(error))
        return job_body(job, [], None)


@router.get("/jobs", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_jobs(
    here: Here,
    status: Status | None = None,
    model: Annotated[str | None, Query(pattern=MODEL_NAME)] = None,
    kind: Kind | None = None,
    label: Annotated[str | None, Query(description="key=value")] = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[JobBody]:
    """Jobs, newest first; by default those of the kinds that make or score models."""
    where = JobFilter(
        kinds=(kind,) if kind else LISTED_KINDS, status=status, model=model, label=_label(label)
    )
    found = here.records.jobs.page(where, before_seq=sequence_after(after), limit=limit + 1)
    shown = found[:limit]
    more = len(found) > limit
    return Page(
        data=_bodies(here, shown),
        has_more=more,
        next=cursor_of(shown[-1].seq) if more else None,
    )


@router.get("/jobs/{job_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_job(
    job_id: JobId,
    here: Here,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the end of the job.")] = 0,
) -> JobBody:
    """One job; with `wait`, the answer comes when the job has ended or the time is over."""
    until = time.monotonic() + wait
    while True:
        job = await asyncio.to_thread(_found, here, job_id)
        if job.status.is_terminal or time.monotonic() >= until or here.closing.is_set():
            return await asyncio.to_thread(_body, here, job)
        await asyncio.sleep(LOOK_EVERY_S)


@router.post("/jobs/{job_id}/cancel", responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT))
def cancel(job_id: JobId, here: Here) -> JobBody:
    """Ask the job to end; repeating is harmless. A job that succeeded or failed answers 409."""
    job = here.records.jobs.cancel(job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    if job.status in (Status.SUCCEEDED, Status.FAILED):
        raise IllegalMoveError(
            f"job {job_id} has {job.status.value}; only a waiting or running one can be cancelled"
        )
    here.ringer.ask(job_id)
    return _body(here, job)


def _found(here: Context, job_id: str) -> Job:
    job = here.records.jobs.get(job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    return job


def _body(here: Context, job: Job) -> JobBody:
    return _bodies(here, [job])[0]


def _bodies(here: Context, found: Sequence[Job]) -> list[JobBody]:
    moves = here.records.jobs.transitions_of([job.id for job in found])
    places = here.records.jobs.queue_places(found)
    return [job_body(job, moves[job.id], places.get(job.id)) for job in found]


def _label(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(LABEL_KEY, key) or not re.fullmatch(LABEL_VALUE, value):
        raise SpecRefusedError(
            [Fault("/label", f"write key=value, as in a job's labels. Received: {text!r}")]
        )
    return key, value
