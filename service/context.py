"""What the API's routes work with, made once by `create_app` and handed to each request."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

import httpx
import structlog
from fastapi import Depends, Request

from service.auth import TokenFile
from service.errors import DatabaseUnavailableError, UnauthorizedError
from service.queue import Bell
from service.records import Records
from service.serving_client import ServingClient
from service.settings import Settings
from serving.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Context:
    """The parts behind the routes."""

    settings: Settings
    records: Records
    bell: Bell
    store: Store
    serving: ServingClient
    http: httpx.AsyncClient
    token: TokenFile
    closing: threading.Event  # set when the server stops: streams end instead of holding it up

    def ring(self, job_id: str) -> None:
        """Tell the workers; best effort, since the reconciler rings for what waits."""
        try:
            if self.bell.ring(job_id):
                self.records.recovery.rung([job_id])
        except DatabaseUnavailableError as error:
            # The job is committed: it must be answered as accepted, whatever becomes of the note.
            log.warning("ring_not_noted", job_id=job_id, error=str(error))


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]


def authorized(request: Request, here: Here) -> None:
    """Let the request through only with the bearer token.

    Raises:
        UnauthorizedError: it is missing or wrong.
    """
    if not here.token.accepts(request.headers.get("Authorization")):
        raise UnauthorizedError(
            "this path wants `Authorization: Bearer <token>`; the token is in FITSERVE_TOKEN_FILE"
        )
