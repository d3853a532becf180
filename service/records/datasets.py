"""Data sets: uploaded or named by URI, and what was found in them.

A data set's status stands in no column: it is ready when something was found in it; until then it is what
the row that fetches or reads it is, so that however that row ends, the data set says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from service.errors import ContentGoneError, DatasetInUseError, NameTakenError
from service.jobs import NewJob, Status
from service.records.claims import Claim, finish_in, lock
from service.records.database import Database
from service.records.jobs import insert_job
from service.records.tables import dataset_uses, datasets, jobs

CANCELLED = {"code": "cancelled", "detail": "its ingest was cancelled", "retryable": True}


@dataclass(frozen=True)
class Dataset:
    """What is recorded of a data set. `status` is pending, ready or failed."""

    id: str
    seq: int
    name: str | None
    uri: str | None  # with whatever is secret in it: show it redacted
    digest: str | None  # None until it was fetched
    size_bytes: int | None
    fingerprint: str | None  # of what is read in place
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
        filename: str,
        digest: str | None = None,
        size_bytes: int | None = None,
        uri: str | None = None,
        ingest: NewJob | None = None,
    ) -> Dataset:
        """Record an upload or a URI, and queue `ingest` to fetch or read it unless that was or is being done.

        The same content, or URI, under the same name is the same data set. A name whose data can't be read
        is free for the mended ones. The answer's `ingest_id` is the given row's exactly when that was queued.

        Raises:
            NameTakenError: the name belongs to other content, or to what another URI names.
        """
        with self._database.write() as connection:
            values = {
                "id": dataset_id,
                "name": name,
                "uri": uri,
                "digest": digest,
                "size_bytes": size_bytes,
                "filename": filename,
                "created_at": time.time(),
            }
            key = datasets.c.id == dataset_id if name is None else datasets.c.name == name
            known = self._settle(connection, key, values)
            if not _same(known, values):
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

    def used_by(self, job_id: str) -> dict[str, Dataset]:
        """The data sets of a job, by their use."""
        query = _QUERY.join(dataset_uses, dataset_uses.c.dataset_id == datasets.c.id).where(
            dataset_uses.c.job_id == job_id
        )
        with self._database.read() as connection:
            uses = connection.execute(select(dataset_uses).where(dataset_uses.c.job_id == job_id)).all()
            known = {row.id: _dataset(row) for row in connection.execute(query)}
        return {row.use: known[row.dataset_id] for row in uses if row.dataset_id in known}

    def page(self, *, before_seq: int | None, limit: int) -> list[Dataset]:
        """At most `limit` data sets, newest first."""
        query = _QUERY.order_by(datasets.c.seq.desc()).limit(limit)
        if before_seq is not None:
            query = query.where(datasets.c.seq < before_seq)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(query)]

    def fetched(
        self, claim: Claim, found: Mapping[str, Any], ingest: NewJob, *, is_there: Callable[[], bool]
    ) -> bool:
        """Pin the content that the claimed row fetched, queue `ingest` to read it, end the row; or nothing.

        `found` has the `digest`, the `size_bytes` and, of what stays in place, the `fingerprint`. Jobs that
        wait for the data set learn the digest too. False when fenced.

        Raises:
            ContentGoneError: by now the content isn't there any more (`is_there`).
        """
        id_ = claim.job.dataset_id
        with self._database.write() as connection:
            if lock(connection, claim) is None:
                return False
            pinned = {name: found.get(name) for name in ("digest", "size_bytes", "fingerprint")}
            changed = connection.execute(
                update(datasets).where(datasets.c.id == id_).values(**pinned, ingest_id=ingest.id)
            )
            if changed.rowcount:
                # Whoever deletes a data set of the same content has either seen this row, or taken the file.
                if not is_there():
                    raise ContentGoneError(f"what was fetched for {id_} was deleted again")
                connection.execute(
                    update(jobs)
                    .where(jobs.c.dataset_id == id_, jobs.c.status == Status.QUEUED.value)
                    .values(dataset_digest=found["digest"])
                )
                insert_job(connection, replace(ingest, dataset_id=id_), self._database)
            return finish_in(connection, claim, Status.SUCCEEDED, result=found)

    def delete(self, dataset_id: str, *, orphaned: Callable[[str], None]) -> bool:
        """Remove the data set; False if there is none. `orphaned` is told of a content that nobody names now.

        It is called before the removal is kept, which may fail still.

        Raises:
            DatasetInUseError: a waiting or running job uses it.
        """
        with self._database.write() as connection:
            if not self._database.is_sqlite:
                # Nobody records the same content while its file goes; uploads wait for that moment.
                connection.execute(text("LOCK TABLE datasets IN SHARE ROW EXCLUSIVE MODE"))
            row = connection.execute(_IDENTIFIED, {"wanted": dataset_id}).first()
            if row is None:
                return False
            users = connection.execute(_USERS, {"wanted": dataset_id}).scalars().all()
            if users:
                raise DatasetInUseError(
                    f"data set {dataset_id} is used by {', '.join(users)}, which has not ended"
                )
            connection.execute(delete(dataset_uses).where(dataset_uses.c.dataset_id == dataset_id))
            connection.execute(delete(datasets).where(datasets.c.id == dataset_id))
            if row.digest is not None and connection.execute(_NAMED, {"digest": row.digest}).first() is None:
                orphaned(row.digest)
            return True

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
            if _same(known, values) or known.name is None or known.status != "failed":
                return known
            connection.execute(update(datasets).where(datasets.c.id == known.id).values(name=None))

    def _one(self, query: Select[Any]) -> Dataset | None:
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
            return _dataset(row) if row else None


def _same(known: Dataset, values: Mapping[str, Any]) -> bool:
    """Whether these describe the data set that is known: by its URI, or by its content if it has none."""
    if known.uri is not None or values["uri"] is not None:
        return bool(known.uri == values["uri"])
    return known.digest == str(values["digest"])


_IDENTIFIED = select(datasets.c.digest).where(datasets.c.id == bindparam("wanted")).with_for_update()
_NAMED = select(datasets.c.id).where(datasets.c.digest == bindparam("digest")).limit(1)
_USERS = (
    select(jobs.c.id)
    .where(
        jobs.c.status.in_([status.value for status in Status if not status.is_terminal]),
        or_(
            jobs.c.dataset_id == bindparam("wanted"),
            jobs.c.id.in_(
                select(dataset_uses.c.job_id).where(dataset_uses.c.dataset_id == bindparam("wanted"))
            ),
        ),
    )
    .order_by(jobs.c.seq)
    .limit(5)
)
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
