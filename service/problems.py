"""Errors as application/problem+json (RFC 9457): the one table from what went wrong to what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service import errors
from service.errors import Fault
from service.pointers import pointer_of

MEDIA_TYPE = "application/problem+json"
TYPE_ROOT = "urn:fitserve:problem:"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Shape:
    """What an error becomes."""

    status: HTTPStatus
    code: str
    retry_after_s: int | None = None


TABLE: dict[type[errors.ServiceError], Shape] = {
    errors.NotFoundError: Shape(HTTPStatus.NOT_FOUND, "not_found"),
    errors.SpecRefusedError: Shape(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_spec"),
    errors.IllegalMoveError: Shape(HTTPStatus.CONFLICT, "illegal_move"),
    errors.NameTakenError: Shape(HTTPStatus.CONFLICT, "name_taken"),
    errors.DatasetInUseError: Shape(HTTPStatus.CONFLICT, "dataset_in_use"),
    errors.IdempotencyConflictError: Shape(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_conflict"),
    errors.UploadTooLargeError: Shape(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "upload_too_large"),
    errors.UploadUnreadableError: Shape(HTTPStatus.BAD_REQUEST, "no_file"),
    errors.UnauthorizedError: Shape(HTTPStatus.UNAUTHORIZED, "unauthorized"),
    errors.ServingUnavailableError: Shape(HTTPStatus.SERVICE_UNAVAILABLE, "serving_unavailable", 2),
    errors.DatabaseUnavailableError: Shape(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", 2),
}


class ProblemError(BaseModel):
    """One fault of the body."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the value that is wrong.")
    detail: str


class Problem(BaseModel):
    """What every error answers, from 400 to 503."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="A stable word for programs.")
    request_id: str
    errors: list[ProblemError] = Field(default_factory=list, description="Every fault of the body at once.")


def install(app: FastAPI) -> None:
    """Let every error of the application answer as a problem."""

    @app.exception_handler(errors.ServiceError)
    async def refused(request: Request, error: errors.ServiceError) -> JSONResponse:
        shape = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
        faults = error.faults if isinstance(error, errors.SpecRefusedError) else ()
        headers = {"WWW-Authenticate": "Bearer"} if shape.status is HTTPStatus.UNAUTHORIZED else {}
        if shape.retry_after_s is not None:
            headers["Retry-After"] = str(shape.retry_after_s)
        return _answer(request, shape.status, shape.code, str(error), faults=faults, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        if any(each["loc"][0] == "path" for each in error.errors()):
            detail = f"{request.url.path!r} can't be the address of anything"
            return _answer(request, HTTPStatus.NOT_FOUND, "not_found", detail)
        faults = [_parameter_fault(each) for each in error.errors()]
        detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults)
        return _answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", detail, faults=faults)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "_").replace("-", "_")
        return _answer(request, status, code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> JSONResponse:
        request_id = getattr(request.state, "request_id", "")
        log.error("request_failed", path=request.url.path, request_id=request_id, exc_info=error)
        detail = "the server failed; its log has the request_id"
        return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail)


def reads(schema: str) -> dict[str, Any]:
    """What OpenAPI says of a route that reads its body itself, so as to tell every error at once."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"requestBody": {"required": True, "content": content}}


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's entries for the problems that a route may answer."""
    return {
        status.value: {"model": Problem, "description": status.phrase, "content": {MEDIA_TYPE: {}}}
        for status in statuses
    }


def _answer(
    request: Request,
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=TYPE_ROOT + code,
        title=status.phrase,
        status=status.value,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=getattr(request.state, "request_id", ""),
        errors=[ProblemError(pointer=fault.pointer, detail=fault.detail) for fault in faults],
    )
    told = {**(headers or {}), "X-Request-ID": problem.request_id}
    return JSONResponse(problem.model_dump(), status.value, headers=told, media_type=MEDIA_TYPE)


def _parameter_fault(error: dict[str, Any]) -> Fault:
    path = [part for part in error["loc"] if part not in ("body", "query", "path", "header")]
    return Fault(pointer_of(path), error["msg"])
