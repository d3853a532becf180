"""Data sets: upload, name by URI, look up, delete; and what was found in them."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, BinaryIO

import structlog
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile

from service.bodies import DatasetBody, Page, cursor_of, dataset_body, sequence_after
from service.context import Context, Here
from service.data import Removal, dataset_file, keep
from service.documents import read_document
from service.errors import (
    DatabaseUnavailableError,
    Fault,
    NotFoundError,
    SpecRefusedError,
    UploadUnreadableError,
)
from service.jobs import MODEL_NAME, Kind, NewJob, new_id
from service.pointers import faults_of
from service.problems import responses
from service.records import Dataset
from service.routes.addresses import DatasetName
from service.sources import made_of
from service.uris import ID_PREFIX, UriError
from trainer.forms import SpecModel

router = APIRouter(tags=["datasets"])

log = structlog.get_logger(__name__)

INGEST_WAIT_S = 30.0
LOOK_EVERY_S = 0.05
CHUNK = 1 << 20
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "name": {"type": "string", "description": "A unique name for dataset://<name>."},
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/DatasetByUri"}},
        },
    }
}


class DatasetByUri(SpecModel):
    """A data set that a worker fetches from where the operator allows it."""

    uri: str = Field(
        min_length=1, max_length=2000, description="file:///..., http(s)://..., s3://... or gs://..."
    )
    name: str | None = Field(None, description="A unique name for dataset://<name>.")


@router.post(
    "/datasets",
    status_code=201,
    openapi_extra=UPLOAD_BODY,
    responses=responses(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    | {202: {"model": DatasetBody, "description": "Kept; its schema is still being read."}},
)
async def upload(request: Request, response: Response, here: Here) -> DatasetBody:
    """Keep a file (multipart: `file`, and a `name` of your choice), or what a worker fetches (JSON: `uri`).

    The same content, and the same URI, is kept once. The answer waits up to 30 s until its schema and
    statistics are read, and is 202 after that.
    """
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json":
        dataset = await asyncio.to_thread(_name, here, await request.body())
    else:
        dataset = await _uploaded(request, here)
    until = time.monotonic() + INGEST_WAIT_S
    while dataset.status == "pending" and time.monotonic() < until and not here.closing.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
        dataset = await asyncio.to_thread(_again, here, dataset)
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    if dataset.status == "pending":
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Retry-After"] = "1"
    return dataset_body(dataset)


async def _uploaded(request: Request, here: Context) -> Dataset:
    async with request.form(max_files=1, max_fields=4) as form:
        file, name = form.get("file"), form.get("name")
        if not isinstance(file, UploadFile):
            raise UploadUnreadableError("send multipart/form-data with the file in the field `file`")
        if name is not None and not isinstance(name, str):
            raise UploadUnreadableError("the field `name` is a text")
        chosen = _checked_name(name)
        filename = _filename(file.filename)
        return await asyncio.to_thread(_keep, here, file.file, chosen, filename)


@router.get("/datasets", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_datasets(
    here: Here, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Page[DatasetBody]:
    """Data sets, newest first."""
    found = here.records.datasets.page(before_seq=sequence_after(after), limit=limit + 1)
    shown = found[:limit]
    more = len(found) > limit
    return Page(
        data=[dataset_body(dataset) for dataset in shown],
        has_more=more,
        next=cursor_of(shown[-1].seq) if more else None,
    )


@router.get("/datasets/{id_or_name}", responses=responses(HTTPStatus.NOT_FOUND))
def get_dataset(id_or_name: DatasetName, here: Here) -> DatasetBody:
    """One data set, by id or unique name."""
    return dataset_body(_found(here, id_or_name))


@router.delete(
    "/datasets/{id_or_name}",
    status_code=204,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete_dataset(id_or_name: DatasetName, here: Here) -> None:
    """Delete a data set; 409 while a waiting or running job uses it.

    Its content goes with the last data set that has it. What stays in place is the operator's, and stays.
    """
    removal = Removal(here.settings.data_root)
    try:
        found = here.records.datasets.delete(_found(here, id_or_name).id, orphaned=removal.put_aside)
    except BaseException:
        removal.put_back()
        raise
    removal.finish()
    if not found:
        raise NotFoundError(f"there is no data set {id_or_name!r}")


def _name(here: Context, raw: bytes) -> Dataset:
    """The data set of a URI, which a worker fetches."""
    body = read_document(raw)
    try:
        asked = DatasetByUri.model_validate(body)
    except ValidationError as error:
        raise SpecRefusedError(faults_of(error, body, DatasetByUri)) from error
    name = _checked_name(asked.name)
    try:
        here.settings.allowed.check(asked.uri)
    except UriError as error:
        raise SpecRefusedError([Fault("/uri", str(error))]) from error
    dataset = made_of(asked.uri, here.records.datasets, name=name)
    if dataset.status == "pending" and dataset.ingest_id is not None:
        here.ringer.ask(dataset.ingest_id)
    return dataset


def _keep(here: Context, file: BinaryIO, name: str | None, filename: str) -> Dataset:
    dataset = _kept(here, file, name, filename)
    # Whoever deleted the last data set of this content since it was written took the file along.
    if not dataset_file(here.settings.data_root, dataset.digest or "").exists():
        file.seek(0)
        keep(here.settings.data_root, _chunks(file), max_bytes=here.settings.max_upload_bytes)
    return dataset


def _kept(here: Context, file: BinaryIO, name: str | None, filename: str) -> Dataset:
    stored = keep(here.settings.data_root, _chunks(file), max_bytes=here.settings.max_upload_bytes)
    # The id says the content, so that an unnamed upload done twice is one data set.
    own = ID_PREFIX + stored.digest.removeprefix("sha256:")[:20]
    row = NewJob(
        kind=Kind.INGEST, spec={"kind": Kind.INGEST.value, "filename": filename}, dataset_digest=stored.digest
    )
    dataset = here.records.datasets.create(
        dataset_id=own if name is None else new_id("ds"),
        name=name,
        digest=stored.digest,
        size_bytes=stored.size_bytes,
        filename=filename,
        ingest=row,
    )
    if dataset.ingest_id == row.id:
        here.ringer.ask(row.id)
    return dataset


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _found(here: Context, id_or_name: str) -> Dataset:
    dataset = here.records.datasets.find(id_or_name)
    if dataset is None:
        raise NotFoundError(f"there is no data set {id_or_name!r}")
    return dataset


def _again(here: Context, dataset: Dataset) -> Dataset:
    """The data set as it is now, or as it was: a kept upload is answered even while the database is away."""
    try:
        return _found(here, dataset.id)
    except DatabaseUnavailableError as error:
        log.warning("dataset_not_read", dataset_id=dataset.id, error=str(error))
        return dataset


def _filename(given: str | None) -> str:
    """The end of the name that was given, as far as it can be stored and shown."""
    shown = "".join(each for each in given or "" if unicodedata.category(each)[0] != "C")
    return shown[-255:] or "data"


def _checked_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(MODEL_NAME, name):
        detail = (
            f"a name has 1 to 63 of a-z, 0-9, _ and -, and starts with a letter or digit. Received: {name!r}"
        )
        raise SpecRefusedError([Fault("/name", detail)])
    if name is not None and name.startswith(ID_PREFIX):
        detail = f"{ID_PREFIX} is how the ids of data sets begin; choose another name. Received: {name!r}"
        raise SpecRefusedError([Fault("/name", detail)])
    return name
