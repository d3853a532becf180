"""A job's events and learning curves: as pages of JSON, or as a stream that can be taken up again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from service.bodies import EventBody, Page, event_body
from service.context import Context, Here
from service.errors import NotFoundError
from service.jobs import EventKind, Status
from service.problems import responses
from service.routes.addresses import LARGEST_INT, JobId

router = APIRouter(tags=["jobs"])
LOOK_EVERY_S = 0.2
PING_EVERY_S = 15.0
BATCH = 200
RECONNECT_AFTER_MS = 1000


@router.get(
    "/jobs/{job_id}/events",
    response_model=Page[EventBody],
    responses=responses(HTTPStatus.NOT_FOUND) | {200: {"content": {"text/event-stream": {}}}},
)
async def get_events(
    job_id: JobId,
    request: Request,
    here: Here,
    after: Annotated[int, Query(ge=0, le=LARGEST_INT, description="Only events with a larger id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    last_event_id: Annotated[int | None, Header(ge=0, le=LARGEST_INT)] = None,
) -> Response | Page[EventBody]:
    """Events in order; with `Accept: text/event-stream` as a stream, which ends after the terminal one."""
    if await asyncio.to_thread(here.records.jobs.get, job_id) is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    if "text/event-stream" in request.headers.get("Accept", ""):
        start = last_event_id if last_event_id is not None else after
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _stream(here, job_id, start), media_type="text/event-stream", headers=headers
        )
    found = await asyncio.to_thread(here.records.jobs.events, job_id, after=after, limit=limit + 1)
    shown = [event_body(event) for event in found[:limit]]
    more = len(found) > limit
    return Page(data=shown, has_more=more, next=str(shown[-1].id) if more else None)


@router.get("/jobs/{job_id}/metrics", responses=responses(HTTPStatus.NOT_FOUND))
def get_metrics(job_id: JobId, here: Here) -> dict[str, list[dict[str, Any]]]:
    """The learning curves: the metrics at each epoch's end."""
    if here.records.jobs.get(job_id) is None:
        raise NotFoundError(f"there is no job {job_id!r}")
    return {"data": here.records.jobs.curves(job_id)}


async def _stream(here: Context, job_id: JobId, after: int) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_AFTER_MS)
    told_at = time.monotonic()
    while not here.closing.is_set():
        # The status comes first: whatever ended the job stored its last event in the same transaction.
        job = await asyncio.to_thread(here.records.jobs.get, job_id)
        batch = await asyncio.to_thread(here.records.jobs.events, job_id, after=after, limit=BATCH)
        for event in batch:
            data = json.dumps(event.data, separators=(",", ":"))
            yield format_sse_event(id=str(event.n), event=event.kind.value, data_str=data)
            after = event.n
            if event.kind is EventKind.STATUS and Status(event.data["status"]).is_terminal:
                return
        if batch:
            told_at = time.monotonic()
            continue
        if job is None or job.status.is_terminal:
            return  # taken up after the terminal event
        if time.monotonic() - told_at >= PING_EVERY_S:
            yield format_sse_event(comment="ping")
            told_at = time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
