"""What can be said of a spec without training it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from service.bodies import JobBody, job_body
from service.context import Context, Here
from service.documents import read_document
from service.errors import Fault, NotFoundError, SpecRefusedError
from service.inspection import new_inspection, new_validation
from service.jobs import Job, NewJob, Status
from service.problems import reads, responses
from service.records import Records
from service.uris import Allowed

router = APIRouter(tags=["dry runs"])
WAIT_S = 30.0
LOOK_EVERY_S = 0.05


@router.post(
    "/models:inspect",
    openapi_extra=reads("InspectBody"),
    responses=responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
    | {202: {"model": JobBody, "description": "Still at it: its `result` will be the description."}},
)
async def inspect_model(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """What Keras's `summary()` says of a model, and what training it would take; nothing is trained.

    The answer waits up to 30 s for a worker, and is 202 with the row's address after that.
    """
    return await _answered(await request.body(), new_inspection, response, here)


@router.post(
    "/jobs:validate",
    openapi_extra=reads("JobSpec"),
    responses=responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
    | {202: {"model": JobBody, "description": "Still at it: its `result` will tell."}},
)
async def validate_job(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """Try a training job dry: its data are read, its model is built without weights, nothing is trained.

    200 tells the model, the rows of each part, feasible exports and warnings; 422 tells every error at once,
    those that training itself would have met included. It waits as the inspection of a model does.
    """
    answer = await _answered(await request.body(), new_validation, response, here)
    if response.status_code == HTTPStatus.ACCEPTED:
        return answer
    if answer["faults"]:
        raise SpecRefusedError([Fault(each["pointer"], each["detail"]) for each in answer["faults"]])
    return {name: answer[name] for name in ("rows", "model", "exports", "warnings")}


async def _answered(
    raw: bytes, new: Callable[[object, Records, Allowed], NewJob], response: Response, here: Context
) -> dict[str, Any]:
    """Submit a short row and wait for its result; 202 and where to look after a while."""
    job = await asyncio.to_thread(_submit, here, raw, new)
    until = time.monotonic() + WAIT_S
    while not job.status.is_terminal and time.monotonic() < until and not here.closing.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
        job = await asyncio.to_thread(_again, here, job)
    if job.status is Status.SUCCEEDED:
        return dict(job.result or {})
    if job.status.is_terminal:
        raise SpecRefusedError([_fault(job.error or {})])
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = "1"
    return job_body(job, [], None).model_dump()


def _submit(here: Context, raw: bytes, new: Callable[[object, Records, Allowed], NewJob]) -> Job:
    job, _place = here.records.jobs.submit(new(read_document(raw), here.records, here.settings.allowed))
    here.ringer.ask(job.id)
    return job


def _again(here: Context, job: Job) -> Job:
    found = here.records.jobs.get(job.id)
    if found is None:
        raise NotFoundError(f"there is no job {job.id!r}")
    return found


def _fault(error: Mapping[str, Any]) -> Fault:
    location = error.get("location") or {}
    return Fault(location.get("pointer", "/model"), error.get("detail", "it can't be built"))
