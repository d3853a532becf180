"""What can be said of a spec without training it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from service.bodies import JobBody, job_body
from service.context import Context, Here
from service.documents import read_document
from service.errors import Fault, NotFoundError, SpecRefusedError
from service.inspection import new_inspection
from service.jobs import Job, Status
from service.problems import responses

router = APIRouter(tags=["models"])
WAIT_S = 30.0
LOOK_EVERY_S = 0.05


@router.post(
    "/models:inspect",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InspectBody"}}},
        }
    },
    responses=responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
    | {202: {"model": JobBody, "description": "Still at it: its `result` will be the description."}},
)
async def inspect_model(request: Request, response: Response, here: Here) -> dict[str, Any]:
    """What Keras's `summary()` says of a model, and what training it would take; nothing is trained.

    The answer waits up to 30 s for a worker, and is 202 with the row's address after that.
    """
    raw = await request.body()
    job = await asyncio.to_thread(_submit, here, raw)
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


def _submit(here: Context, raw: bytes) -> Job:
    job, _place = here.records.jobs.submit(new_inspection(read_document(raw), here.records))
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
