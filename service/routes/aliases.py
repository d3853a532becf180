"""Aliases: names of versions, by which serving answers as soon as it has loaded them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.bodies import iso
from service.context import Context, Here
from service.documents import read_document
from service.errors import Fault, NotFoundError, SpecRefusedError
from service.pointers import faults_of
from service.problems import reads, responses
from service.records import Alias
from service.routes.addresses import LARGEST_INT, Label, ModelName

router = APIRouter(tags=["models"])
LOOK_EVERY_S = 0.2


class AliasRequest(BaseModel):
    """Which version an alias is to mean."""

    model_config = ConfigDict(extra="forbid", strict=True)
    version: int = Field(ge=1, le=LARGEST_INT)


class AliasBody(BaseModel):
    """An alias: serving answers by `assigned`, which becomes `version` once that is loaded."""

    model: str
    alias: str
    version: int
    assigned: int | None
    updated_at: str


@router.put(
    "/models/{model}/aliases/{alias}",
    openapi_extra=reads("AliasRequest"),
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
async def put_alias(
    model: ModelName,
    alias: Label,
    request: Request,
    here: Here,
    wait: Annotated[
        float, Query(ge=0, le=60, description="Seconds to wait until serving answers by it.")
    ] = 0,
) -> AliasBody:
    """Let an alias mean a version: the version is served from now on, and labelled once it is AVAILABLE.

    Until then serving answers by the version that the alias meant before; repeating the call changes nothing.
    """
    raw = await request.body()
    put = await asyncio.to_thread(_put, here, model, alias, raw)
    until = time.monotonic() + wait
    while put.assigned != put.version and time.monotonic() < until and not here.closing.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
        put = await asyncio.to_thread(_found, here, model, alias)
    return _body(put)


@router.delete("/models/{model}/aliases/{alias}", status_code=204, responses=responses(HTTPStatus.NOT_FOUND))
def delete_alias(model: ModelName, alias: Label, here: Here) -> None:
    """Take the alias away; a version that only it kept served is unloaded."""
    if not here.records.aliases.remove(model, alias):
        raise _unknown(here, model, alias)


def _put(here: Context, model: str, name: str, raw: bytes) -> Alias:
    document = read_document(raw)
    if not isinstance(document, Mapping):
        raise SpecRefusedError([Fault("", "expected an object with version")])
    try:
        asked = AliasRequest.model_validate(document)
    except ValidationError as error:
        raise SpecRefusedError(faults_of(error, document, AliasRequest)) from error
    put = here.records.aliases.put(model, name, asked.version)
    if put is None:
        raise NotFoundError(f"there is no version {asked.version} of model {model!r}")
    return put


def _found(here: Context, model: str, name: str) -> Alias:
    alias = here.records.aliases.get(model, name)
    if alias is None:
        raise _unknown(here, model, name)
    return alias


def _unknown(here: Context, model: str, name: str) -> NotFoundError:
    known = ", ".join(alias.name for alias in here.records.aliases.of_models([model])) or "none"
    return NotFoundError(f"model {model!r} has no alias {name!r}; it has {known}")


def _body(alias: Alias) -> AliasBody:
    return AliasBody(
        model=alias.model,
        alias=alias.name,
        version=alias.version,
        assigned=alias.assigned,
        updated_at=iso(alias.updated_at) or "",
    )
