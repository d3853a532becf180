"""Jobs that nobody speaks for: lost leases, silent bells, waits that took too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import Status
from service.records.claims import HELD, REQUEUED, requeue
from service.records.database import Database, Instant
from service.records.history import record_status
from service.records.tables import dataset_uses, datasets, jobs
from service.records.telling import ChildEvent, store_told
from service.uris import place_of_uri

Untold = Callable[[str, int], Sequence[ChildEvent]]


class Recovery:
    """The jobs table, as seen by the reconcilers; any number of them may run at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recover(self, untold: Untold = lambda _job_id, _attempt: ()) -> None:
        """Put back jobs whose lease ran out; end those that waited too long for a slot, or in vain for data.

        `untold` finds what the child of an attempt kept and no record has; the attempt's supervisor died.
        """
        for lost in self._lost():
            told = untold(lost.id, lost.attempt)  # before the transaction: nobody waits for a disk
            with self._database.write() as connection:
                now = self._database.now(connection)
                row = connection.execute(
                    select(*REQUEUED, jobs.c.status)
                    .where(jobs.c.id == lost.id, jobs.c.token == lost.token)
                    .where(jobs.c.status.in_(HELD), _expired(now))
                    .with_for_update()
                ).first()
                if row is None:  # it has beaten since, or another reconciler was faster
                    continue
                store_told(connection, row.id, told, attempt=row.attempt, status=row.status)
                if row.cancel_requested:
                    _end(connection, row.id, row.attempt, Status.CANCELLED)
                else:
                    requeue(connection, row, now, reason="its worker stopped answering")
        with self._database.write() as connection:
            self._end_dataless(connection)
            self._end_overdue(connection, self._database.now(connection))

    def _lost(self) -> Sequence[Row[*tuple[Any, ...]]]:
        with self._database.read() as connection:
            now = self._database.now(connection)
            query = select(jobs.c.id, jobs.c.attempt, jobs.c.token)
            return connection.execute(query.where(jobs.c.status.in_(HELD), _expired(now))).all()

    def unrung(self, *, ring_after_s: float) -> list[str]:
        """At most 100 waiting jobs whose bell was never rung, or not for so long."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            silent = or_(
                jobs.c.rung_at.is_(None),
                jobs.c.rung_at < now.seconds - ring_after_s,
                jobs.c.rung_at > now.seconds,  # of another boot
            )
            waiting = connection.execute(
                select(jobs.c.id).where(jobs.c.status == Status.QUEUED.value, silent).limit(100)
            ).scalars()
            return list(waiting)

    def rung(self, job_ids: Sequence[str]) -> None:
        """Remember that the bell was just rung for these."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(update(jobs).where(jobs.c.id.in_(job_ids)).values(rung_at=now.seconds))

    def _end_dataless(self, connection: Connection) -> None:
        """End the jobs whose data set could not be fetched or read: none will come."""
        ingest = jobs.alias("ingest")
        ended = [status.value for status in Status if status.is_terminal and status is not Status.SUCCEEDED]
        lost = connection.execute(
            select(
                jobs.c.id, jobs.c.attempt, dataset_uses.c.use, datasets.c.id.label("dataset"), ingest.c.error
            )
            .join(dataset_uses, dataset_uses.c.job_id == jobs.c.id)
            .join(datasets, datasets.c.id == dataset_uses.c.dataset_id)
            .join(ingest, ingest.c.id == datasets.c.ingest_id)
            .where(
                jobs.c.status == Status.QUEUED.value, datasets.c.kind.is_(None), ingest.c.status.in_(ended)
            )
            .order_by(jobs.c.seq)
            .with_for_update(skip_locked=True, of=jobs)
        ).all()
        for row in {row.id: row for row in reversed(lost)}.values():
            why = row.error or {"code": "data_unreachable", "detail": "its ingest was cancelled"}
            error = {**why, "detail": f"data set {row.dataset} can't be used: {why['detail']}"}
            error = {
                "retryable": False,
                **error,
                "location": {**(why.get("location") or {}), "pointer": place_of_uri(row.use)},
            }
            _end(connection, row.id, row.attempt, Status.FAILED, error=error)

    def _end_overdue(self, connection: Connection, now: Instant) -> None:
        """A wait counts from the submission, and anew after a reboot of the host."""
        limited = (
            jobs.c.status == Status.QUEUED.value,
            jobs.c.max_pending_s.is_not(None),
            jobs.c.started_at.is_(None),
        )
        connection.execute(
            update(jobs)
            .where(*limited, jobs.c.since_boot != now.boot)
            .values(since=now.seconds, since_boot=now.boot)
        )
        overdue = connection.execute(
            select(jobs.c.id, jobs.c.attempt, jobs.c.max_pending_s)
            .where(*limited, jobs.c.since + jobs.c.max_pending_s < now.seconds)
            .order_by(jobs.c.seq)
            .with_for_update(skip_locked=True)
        ).all()
        for row in overdue:
            error = {
                "code": "pending_exceeded",
                "detail": f"no slot was free within limits.max_pending_s, {row.max_pending_s:g} s",
                "retryable": True,
                "remedy": "raise limits.max_pending_s or the priority, or start more workers",
            }
            _end(connection, row.id, row.attempt, Status.FAILED, error=error)


def _expired(now: Instant) -> ColumnElement[bool]:
    # Another boot id means that the host went down with whoever held the lease.
    return or_(
        jobs.c.lease_until.is_(None),
        jobs.c.lease_until < now.seconds,
        jobs.c.lease_boot != now.boot,
    )


def _end(
    connection: Connection,
    job_id: str,
    attempt: int,
    status: Status,
    *,
    error: Mapping[str, Any] | None = None,
) -> None:
    """End a job that no worker holds; whoever held it is fenced."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            status=status.value,
            phase=None,
            owner=None,
            lease_until=None,
            token=jobs.c.token + 1,
            finished_at=time.time(),
            error=None if error is None else dict(error),
        )
    )
    record_status(connection, job_id, status, attempt=attempt, error=error)
