"""The HTTP API. `uvicorn --factory service.app:create_app` serves it; TensorFlow is never imported here."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx
import structlog
from fastapi import Depends, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.auth import TokenFile
from service.context import BearerToken, Context
from service.evaluation import EvaluationBody
from service.inspection import InspectBody
from service.jobs import JobSpec
from service.logs import configure_logs
from service.queue import Bell, Ringer, celery_app
from service.records import Records
from service.reexport import ExportBody
from service.routes import aliases, datasets, events, health, inspection, jobs, models
from service.serving_client import ServingClient
from service.settings import Settings
from serving.store import Store

log = structlog.get_logger(__name__)

DESCRIPTION = "POST a Keras model, its data and its compile/fit settings; get a proven, served version."


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; settings come from the environment unless given."""
    chosen = settings or Settings()
    configure_logs(chosen.log_level)
    app = FastAPI(
        title="fitserve",
        summary="From model.fit to TensorFlow Serving in one POST.",
        description=DESCRIPTION,
        version="1",
        lifespan=_lifespan(chosen),
    )
    app.state.closing = threading.Event()
    app.add_middleware(_RequestIds)
    problems.install(app)
    app.include_router(health.router)
    guards = [Depends(BearerToken(scheme_name="HTTPBearer"))]
    documented = problems.responses(HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE)
    for module in (jobs, events, datasets, inspection, models, aliases):
        app.include_router(module.router, prefix="/v1", dependencies=guards, responses=documented)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document plus the bodies that their routes read themselves, to tell all errors."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        for model in (
            JobSpec,
            InspectBody,
            EvaluationBody,
            ExportBody,
            datasets.DatasetByUri,
            aliases.AliasRequest,
        ):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            document["components"]["schemas"] |= schema.pop("$defs", {})
            document["components"]["schemas"][model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        token = TokenFile(settings.token_path)
        made = token.ensure()
        if made is not None:
            log.info("token_made", file=str(token.path))
        bell = Bell(celery_app(settings.effective_broker_url))
        context = Context(
            settings=settings,
            records=Records(settings.effective_database_url),
            bell=bell,
            ringer=Ringer(bell),
            store=Store(settings.store_root),
            serving=ServingClient(settings.serving_grpc),
            # Serving is ours: a proxy of the environment is for the world outside.
            http=httpx.AsyncClient(base_url=settings.serving_rest, timeout=30, trust_env=False),
            token=token,
            closing=app.state.closing,
        )
        app.state.context = context
        yield
        context.ringer.close()
        await context.http.aclose()
        context.serving.close()
        context.records.close()

    return lifespan


class _RequestIds:
    """Gives every request an id, which its answer and its problem carry.

    Plain ASGI: FastAPI's own `middleware("http")` costs every request two tasks and a queue.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
