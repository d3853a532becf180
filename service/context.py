"""What the API's routes work with, made once by `create_app` and handed to each request."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

import httpx
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from service.auth import TokenFile
from service.errors import UnauthorizedError
from service.queue import Bell, Ringer
from service.records import Records
from service.serving_client import ServingClient
from service.settings import Settings
from serving.store import Store


@dataclass(frozen=True)
class Context:
    """The parts behind the routes."""

    settings: Settings
    records: Records
    bell: Bell
    ringer: Ringer
    store: Store
    serving: ServingClient
    http: httpx.AsyncClient
    token: TokenFile
    closing: threading.Event  # set when the server stops: streams end instead of holding it up


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]


class BearerToken(HTTPBearer):
    """Lets a request through only with the bearer token.

    One dependency that takes no other: FastAPI solves each of them anew for every request, and at a few
    hundred requests a second that shows.
    """

    async def __call__(self, request: Request) -> None:  # type: ignore[override]  # whoever asks gets nothing
        """Look at the header.

        Raises:
            UnauthorizedError: the token is missing or wrong.
        """
        context: Context = request.app.state.context
        if not context.token.accepts(request.headers.get("Authorization")):
            raise UnauthorizedError(
                "this path wants `Authorization: Bearer <token>`; the token is in FITSERVE_TOKEN_FILE"
            )
