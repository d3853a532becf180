"""Whether the API lives, and whether what it depends on answers. Open to all: orchestrators have no token."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.context import Context, Here
from service.errors import DatabaseUnavailableError

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Each part and its state; only the database decides whether requests are taken."""

    ready: bool
    database: Literal["ok", "unavailable"]
    broker: Literal["ok", "unavailable"]
    serving: Literal["ok", "unavailable"]
    workers: int


@router.get("/healthz")
def healthz() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(here: Here, response: Response) -> Readiness:
    """200 when the database answers: a job can be taken then, whatever else is down."""
    database, broker, serving = await asyncio.gather(
        asyncio.to_thread(_workers, here),
        asyncio.to_thread(here.bell.answers),
        asyncio.to_thread(here.serving.answers),
    )
    response.status_code = 503 if database is None else 200
    return Readiness(
        ready=database is not None,
        database="unavailable" if database is None else "ok",
        broker="ok" if broker else "unavailable",
        serving="ok" if serving else "unavailable",
        workers=database or 0,
    )


def _workers(here: Context) -> int | None:
    """How many workers were seen lately; None when the database does not answer."""
    try:
        return len(here.records.workers.present())
    except DatabaseUnavailableError:
        return None
