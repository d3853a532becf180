"""Models: published versions, their state in serving, their artifacts, and predictions by way of serving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Query, Request, Response

from service.bodies import (
    JobBody,
    ModelBody,
    Page,
    ServingBody,
    VersionBody,
    cursor_of,
    iso,
    job_body,
    name_after,
    version_body,
)
from service.context import Context, Here
from service.documents import read_document
from service.errors import NotFoundError, ServingUnavailableError
from service.evaluation import new_evaluation
from service.jobs import NewJob, Status, Transition
from service.problems import reads, responses
from service.records import PublishedVersion
from service.reexport import new_export
from service.routes.addresses import Label, ModelName, VersionNumber
from service.routes.downloads import download
from service.serving_client import ServingState

router = APIRouter(tags=["models"])
LOOK_EVERY_S = 0.2
PREDICT: dict[int | str, dict[str, Any]] = {
    200: {"description": "TensorFlow Serving's own answer."},
    400: {"description": "TensorFlow Serving's own refusal: `{error}`."},
    404: {"description": "TensorFlow Serving doesn't serve that: `{error}`."},
}


@router.get("/models", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_models(
    here: Here, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Page[ModelBody]:
    """Models with a published version, by name."""
    found = list(here.records.versions.numbers(after=name_after(after), limit=limit + 1).items())
    shown = found[:limit]
    aliases = _aliases(here, [name for name, _ in shown])
    more = len(found) > limit
    return Page(
        data=[
            ModelBody(name=name, latest=numbers[0], versions=numbers, aliases=aliases.get(name, {}))
            for name, numbers in shown
        ],
        has_more=more,
        next=cursor_of(shown[-1][0]) if more else None,
    )


@router.get("/models/{model}/versions", responses=responses(HTTPStatus.NOT_FOUND))
def list_versions(model: ModelName, here: Here) -> Page[VersionBody]:
    """All published versions of a model, newest first."""
    found = here.records.versions.of_model(model)
    if not found:
        raise NotFoundError(f"there is no model {model!r}")
    states = here.serving.states(model, [version.number for version in found])
    aliases = _aliases(here, [model]).get(model, {})
    bodies = [_body(here, version, states[version.number], aliases) for version in found]
    return Page(data=bodies, has_more=False, next=None)


@router.get("/models/{model}/versions/{number}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_version(
    model: ModelName,
    number: VersionNumber,
    here: Here,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait until serving has it.")] = 0,
) -> VersionBody:
    """One version; with `wait`, the answer comes when serving says AVAILABLE or the time is over."""
    until = time.monotonic() + wait
    version = await asyncio.to_thread(_found, here, model, number)
    aliases = (await asyncio.to_thread(_aliases, here, [model])).get(model, {})
    while True:
        state = await asyncio.to_thread(here.serving.state, model, number)
        body = _body(here, version, state, aliases)
        if body.serving.state == "AVAILABLE" or time.monotonic() >= until or here.closing.is_set():
            return body
        await asyncio.sleep(LOOK_EVERY_S)


@router.get(
    "/models/{model}/versions/{number}/artifacts/{name}",
    response_class=Response,
    responses=responses(HTTPStatus.NOT_FOUND) | {200: {"content": {"application/octet-stream": {}}}},
)
def download_artifact(
    model: ModelName, number: VersionNumber, name: str, request: Request, here: Here
) -> Response:
    """An artifact's bytes; the ETag is its sha256. A folder comes as one tar, the same bytes each time.

    `Range`, with `If-Range`, takes up a download that broke off.
    """
    artifact = _artifact(_found(here, model, number), name)
    path = here.store.artifact(model, number, name)
    return download(path, artifact, name=f"{model}-{number}-{name}", request=request)


@router.post(
    "/models/{model}/versions/{number}/evaluations",
    status_code=202,
    response_model=JobBody,
    openapi_extra=reads("EvaluationBody"),
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
async def evaluate_version(
    model: ModelName, number: VersionNumber, request: Request, response: Response, here: Here
) -> JobBody:
    """Score the version on a data set: a job, whose `result` has rows, metrics and how each output errs."""
    raw = await request.body()
    return _accepted(await asyncio.to_thread(_evaluate, here, model, number, raw), response)


@router.post(
    "/models/{model}/versions/{number}/exports",
    status_code=202,
    response_model=JobBody,
    openapi_extra=reads("ExportBody"),
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
async def export_version(
    model: ModelName, number: VersionNumber, request: Request, response: Response, here: Here
) -> JobBody:
    """Add artifacts to the version: a job that makes and proves them; the version itself stays as it is."""
    raw = await request.body()
    return _accepted(await asyncio.to_thread(_export, here, model, number, raw), response)


def _accepted(job: JobBody, response: Response) -> JobBody:
    """Say where the job is asked for, and when it is worth it."""
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    response.headers["Retry-After"] = "1"
    return job


def _evaluate(here: Context, model: str, number: int, raw: bytes) -> JobBody:
    version = _found(here, model, number)
    return _submitted(
        here, new_evaluation(read_document(raw), version, here.records, here.store, here.settings.allowed)
    )


def _export(here: Context, model: str, number: int, raw: bytes) -> JobBody:
    version = _found(here, model, number)
    return _submitted(here, new_export(read_document(raw), version, here.records, here.store))


def _submitted(here: Context, new: NewJob) -> JobBody:
    job, place = here.records.jobs.submit(new)
    here.ringer.ask(job.id)
    return job_body(job, [Transition(Status.QUEUED, 0, "", job.created_at)], place)


@router.post("/models/{model}:predict", response_model=None, responses=PREDICT)
async def predict_latest(model: ModelName, request: Request, here: Here) -> Response:
    """Pass a prediction in TensorFlow Serving's JSON on to serving, and its answer back as it is."""
    return await _proxy(here, f"/v1/models/{model}:predict", request)


@router.post(
    "/models/{model}/versions/{number}:predict",
    response_model=None,
    responses=PREDICT,
)
async def predict_version(model: ModelName, number: VersionNumber, request: Request, here: Here) -> Response:
    """The same, of one version."""
    return await _proxy(here, f"/v1/models/{model}/versions/{number}:predict", request)


@router.post(
    "/models/{model}/labels/{label}:predict",
    response_model=None,
    responses=PREDICT,
)
async def predict_label(model: ModelName, label: Label, request: Request, here: Here) -> Response:
    """The same, of the version that carries the label in serving."""
    return await _proxy(here, f"/v1/models/{model}/labels/{label}:predict", request)


async def _proxy(here: Context, path: str, request: Request) -> Response:
    try:
        answer = await here.http.post(
            path, content=await request.body(), headers={"Content-Type": "application/json"}
        )
    except httpx.TransportError as error:
        raise ServingUnavailableError(f"{here.settings.serving_rest} does not answer: {error}") from error
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("Content-Type"))


def _found(here: Context, model: str, number: int) -> PublishedVersion:
    version = here.records.versions.get(model, number)
    if version is None:
        raise NotFoundError(f"there is no version {number} of model {model!r}")
    return version


def _artifact(version: PublishedVersion, name: str) -> Mapping[str, Any]:
    artifacts = {artifact["name"]: artifact for artifact in version.manifest["artifacts"]}
    if name not in artifacts:
        raise NotFoundError(f"no artifact {name!r}; the version has {', '.join(sorted(artifacts))}")
    found: Mapping[str, Any] = artifacts[name]
    return found


def _aliases(here: Context, models: Sequence[str]) -> dict[str, dict[str, int]]:
    """What each alias of these models means, by model and alias."""
    found: dict[str, dict[str, int]] = {}
    for alias in here.records.aliases.of_models(models):
        found.setdefault(alias.model, {})[alias.name] = alias.version
    return found


def _body(
    here: Context, version: PublishedVersion, state: ServingState, aliases: Mapping[str, int]
) -> VersionBody:
    settings = here.settings
    rest = f"{settings.public_rest or settings.serving_rest}/v1/models/{version.model}"
    urls = {
        "grpc": settings.public_grpc or settings.serving_grpc,
        "predict": f"{rest}/versions/{version.number}:predict",
        "predict_latest": f"{rest}:predict",
        "artifacts": f"/v1/models/{version.model}/versions/{version.number}/artifacts/",
    }
    serving = ServingBody(state=state.state, checked_at=iso(state.checked_at) or "", error=state.error)
    names = [name for name, number in aliases.items() if number == version.number]
    return version_body(version, names, serving, urls)
