"""Uploaded data sets: content-addressed files and what was found in them.

A data set's status stands in no column: it is ready when something was found in it; until then it is what
the row that reads it is, so that however that row ends, the data set says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from service.errors import NameTakenError
from service.jobs import NewJob, Status
from service.records.claims import Claim, finish_in, lock
from service.records.database import Database
from service.records.jobs import insert_job
from service.records.tables import datasets, jobs

CANCELLED = {"code": "cancelled", "detail": "its ingest was cancelled", "retryable": True}


@dataclass(frozen=True)
class Dataset:
    """What is recorded of an upload. `status` is pending, ready or failed."""

    id: str
    seq: int
    name: str | None
    digest: str
    size_bytes: int
    filename: str
    kind: str | None
    status: str
    schema: Mapping[str, Any] | None
    statistics: Mapping[str, Any] | None
    anomalies: Sequence[Mapping[str, Any]] | None
    error: Mapping[str, Any] | None
    ingest_id: str | None
    created_at: float


class DatasetRecords:
    """The data sets table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        dataset_id: str,
        name: str | None,
        digest: str,
        size_bytes: int,
        filename: str,
        ingest: NewJob | None = None,
    ) -> Dataset:
        """Record an upload, and queue `ingest` to read it unless it was read or is being read.

        The same content under the same name is the same data set. A name whose file can't be read is free
        for the mended one. The answer's `ingest_id` is the given row's exactly when that row was queued.

        Raises:
            NameTakenError: the name belongs to other content.
        """
        with self._database.write() as connection:
            known = self._settle(
                connection,
                datasets.c.id == dataset_id if name is None else datasets.c.name == name,
                {
                    "id": dataset_id,
                    "name": name,
                    "digest": digest,
                    "size_bytes": size_bytes,
                    "filename": filename,
                    "created_at": time.time(),
                },
            )
            if known.digest != digest:
                raise NameTakenError(f"{name or dataset_id!r} is a data set with other content, {known.id}")
            being_read = known.status == "pending" and known.ingest_id is not None
            if ingest is None or being_read or known.status == "ready":
                return known
            insert_job(connection, replace(ingest, dataset_id=known.id), self._database)
            connection.execute(update(datasets).where(datasets.c.id == known.id).values(ingest_id=ingest.id))
            return replace(known, ingest_id=ingest.id, status="pending", error=None)

    def get(self, dataset_id: str) -> Dataset | None:
        """The data set of this id, or None."""
        return self._one(_QUERY.where(datasets.c.id == dataset_id))

    def find(self, id_or_name: str) -> Dataset | None:
        """The data set of this id, else of this unique name, or None."""
        with self._database.read() as connection:
            row = connection.execute(_FIND, {"wanted": id_or_name}).first()
            return _dataset(row) if row else None

    def page(self, *, before_seq: int | None, limit: int) -> list[Dataset]:
        """At most `limit` data sets, newest first."""
        query = _QUERY.order_by(datasets.c.seq.desc()).limit(limit)
        if before_seq is not None:
            query = query.where(datasets.c.seq < before_seq)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(query)]

    def ingested(self, claim: Claim, found: Mapping[str, Any]) -> bool:
        """Keep what the claimed row found and end it, in one transaction; False when fenced.

        `found` has the `kind` of source that reads the file, its `schema`, its `statistics` and, where there
        are some, its `anomalies`.
        """
        with self._database.write() as connection:
            if lock(connection, claim) is None:
                return False
            connection.execute(
                update(datasets)
                .where(datasets.c.id == claim.job.dataset_id)
                .values(
                    kind=found["kind"],
                    schema=found["schema"],
                    statistics=found["statistics"],
                    anomalies=list(found.get("anomalies", ())),
                )
            )
            return finish_in(connection, claim, Status.SUCCEEDED, result=found)

    def _settle(self, connection: Connection, key: ColumnElement[bool], values: Mapping[str, Any]) -> Dataset:
        """The row that holds this place, inserted if nobody does, and locked until the transaction ends."""
        dialect = sqlite if self._database.is_sqlite else postgresql
        while True:
            connection.execute(dialect.insert(datasets).values(**values).on_conflict_do_nothing())
            # The lock comes first: what is read before it may be another upload's past.
            locked = connection.execute(select(datasets.c.id).where(key).with_for_update()).scalar()
            if locked is None:
                continue  # another upload has just freed the name
            known = _dataset(connection.execute(_QUERY.where(datasets.c.id == locked)).one())
            if known.digest == values["digest"] or known.name is None or known.status != "failed":
                return known
            connection.execute(update(datasets).where(datasets.c.id == known.id).values(name=None))

    def _one(self, query: Select[Any]) -> Dataset | None:
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
            return _dataset(row) if row else None


_INGEST = {"ingest_status": jobs.c.status, "ingest_error": jobs.c.error}
_QUERY = select(datasets, *(column.label(name) for name, column in _INGEST.items())).outerjoin(
    jobs, jobs.c.id == datasets.c.ingest_id
)
_IS_ID = datasets.c.id == bindparam("wanted")
_FIND = _QUERY.where(or_(_IS_ID, datasets.c.name == bindparam("wanted"))).order_by(_IS_ID.desc()).limit(1)
_STATUS = {Status.FAILED.value: "failed", Status.CANCELLED.value: "failed"}


def _dataset(row: Row[Any]) -> Dataset:
    values = dict(row._mapping)
    ended, error = values.pop("ingest_status"), values.pop("ingest_error")
    if values["kind"] is not None:
        return Dataset(**values, status="ready", error=None)
    status = _STATUS.get(ended, "pending")
    return Dataset(**values, status=status, error=(error or CANCELLED) if status == "failed" else None)
