"""Data sets: upload, and what was found in them."""

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
from starlette.datastructures import UploadFile

from service.bodies import DatasetBody, Page, cursor_of, dataset_body, sequence_after
from service.context import Context, Here
from service.data import keep
from service.errors import (
    DatabaseUnavailableError,
    Fault,
    NotFoundError,
    SpecRefusedError,
    UploadUnreadableError,
)
from service.jobs import MODEL_NAME, Kind, NewJob, new_id
from service.problems import responses
from service.records import Dataset
from service.routes.addresses import DatasetName

router = APIRouter(tags=["datasets"])

log = structlog.get_logger(__name__)

INGEST_WAIT_S = 30.0
ID_PREFIX = "ds_"
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
            }
        },
    }
}


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
    """Keep a file (multipart: `file`, and a `name` of your choice) and read its schema and statistics.

    The same content is kept once. The answer waits up to 30 s for the schema, and is 202 after that.
    """
    async with request.form(max_files=1, max_fields=4) as form:
        file, name = form.get("file"), form.get("name")
        if not isinstance(file, UploadFile):
            raise UploadUnreadableError("send multipart/form-data with the file in the field `file`")
        if name is not None and not isinstance(name, str):
            raise UploadUnreadableError("the field `name` is a text")
        chosen = _checked_name(name)
        filename = _filename(file.filename)
        dataset = await asyncio.to_thread(_keep, here, file.file, chosen, filename)
    until = time.monotonic() + INGEST_WAIT_S
    while dataset.status == "pending" and time.monotonic() < until and not here.closing.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
        dataset = await asyncio.to_thread(_again, here, dataset)
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    if dataset.status == "pending":
        response.status_code = HTTPStatus.ACCEPTED
        response.headers["Retry-After"] = "1"
    return dataset_body(dataset)


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


def _keep(here: Context, file: BinaryIO, name: str | None, filename: str) -> Dataset:
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
