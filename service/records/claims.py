"""Jobs as workers see them: claim one, keep its lease, store what its child tells, let it go.

Every write here names the token that the claim was given. A token that is no longer the row's means that
another attempt owns the job: nothing is written, and the caller is told so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import EventKind, Job, Phase, SlotKind, Status
from service.protocol import boot_clock
from service.records.database import Database, Instant
from service.records.history import append_event, record_status, sources_of
from service.records.jobs import job_of
from service.records.tables import curve_points, events, jobs

HELD = (Status.RUNNING.value, Status.CANCELLING.value)


@dataclass(frozen=True)
class Claim:
    """A job that is ours until the lease runs out."""

    job: Job
    token: int
    since: float  # boot-time clock of this host, before the lease was asked for


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat: the lease is extended, and this is what the owner wants."""

    cancel_requested: bool


@dataclass(frozen=True)
class ChildEvent:
    """One event of a child, under the number the child gave it."""

    n: int
    kind: EventKind
    data: Mapping[str, Any]
    at: float


class Claims:
    """The jobs table, as seen by whoever does the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_next(self, slot: SlotKind, owner: str, lease_s: float) -> Claim | None:
        """Take the best waiting job that a slot of this kind can run: by priority, then submission number."""
        best = (
            select(jobs.c.id, jobs.c.token)
            .where(jobs.c.slot == slot.value, jobs.c.status == Status.QUEUED.value)
            .order_by(jobs.c.priority.desc(), jobs.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        since = boot_clock()
        with self._database.write() as connection:
            found = connection.execute(best).first()
            if found is None:
                return None
            now = self._database.now(connection)
            row = connection.execute(
                update(jobs)
                .where(
                    jobs.c.id == found.id,
                    jobs.c.token == found.token,
                    jobs.c.status == Status.QUEUED.value,
                )
                .values(
                    status=Status.RUNNING.value,
                    phase=Phase.STARTING.value,
                    token=jobs.c.token + 1,
                    attempt=jobs.c.attempt + 1,
                    owner=owner,
                    lease_until=now.seconds + lease_s,
                    lease_boot=now.boot,
                    error=None,
                )
                .returning(*jobs.c)
            ).first()
            if row is None:
                return None
            if row.started_at is None:
                connection.execute(update(jobs).where(jobs.c.id == row.id).values(started_at=time.time()))
            record_status(connection, row.id, Status.RUNNING, attempt=row.attempt)
            job = job_of(row)
        return Claim(job=job, token=job.token, since=since)

    def beat(self, claim: Claim, lease_s: float) -> Beat | None:
        """Extend the lease; None when the job is somebody else's by now."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            row = connection.execute(
                update(jobs)
                .where(held_by(claim))
                .values(lease_until=now.seconds + lease_s, lease_boot=now.boot)
                .returning(jobs.c.cancel_requested)
            ).first()
        return Beat(cancel_requested=row.cancel_requested) if row else None

    def append(self, claim: Claim, told: Sequence[ChildEvent], *, attempt: int | None = None) -> bool:
        """Store what a child told, once each, in order; False when the job is somebody else's by now.

        `attempt` names an earlier attempt whose worker died before it could store its child's last events.
        """
        number = claim.job.attempt if attempt is None else attempt
        with self._database.write() as connection:
            status = lock(connection, claim)
            if status is None:
                return False
            last = connection.execute(
                select(events.c.child_n)
                .where(
                    events.c.job_id == claim.job.id,
                    events.c.attempt == number,
                    events.c.child_n.is_not(None),
                )
                .order_by(events.c.child_n.desc())
                .limit(1)
            ).scalar()
            for event in told:
                if last is not None and event.n <= last:
                    continue
                if event.kind is EventKind.METRIC and not _add_point(connection, claim.job.id, event.data):
                    continue
                # A child knows its phase, but not that somebody is cancelling the job.
                data = {**event.data, "status": status} if event.kind is EventKind.STATUS else event.data
                append_event(
                    connection,
                    claim.job.id,
                    event.kind,
                    data,
                    attempt=number,
                    child_n=event.n,
                    at=event.at,
                )
                _tell_row(connection, claim.job.id, event)
        return True

    def enter(self, claim: Claim, phase: Phase) -> bool:
        """Say that the worker itself entered a phase; False when the job is somebody else's by now."""
        with self._database.write() as connection:
            status = connection.execute(
                update(jobs).where(held_by(claim)).values(phase=phase.value).returning(jobs.c.status)
            ).scalar()
            if status is None:
                return False
            data = {"status": status, "phase": phase.value}
            append_event(connection, claim.job.id, EventKind.STATUS, data, attempt=claim.job.attempt)
            return True

    def set_resources(self, claim: Claim, resources: Mapping[str, Any]) -> bool:
        """Keep what the attempt used; False when the job is somebody else's by now."""
        with self._database.write() as connection:
            changed = connection.execute(update(jobs).where(held_by(claim)).values(resources=dict(resources)))
            return changed.rowcount == 1

    def finish(
        self,
        claim: Claim,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """End the job; False when it is somebody else's by now, or ended already."""
        with self._database.write() as connection:
            return finish_in(connection, claim, status, result=result, error=error)

    def put_back(self, claim: Claim, *, reason: str, died: bool = False) -> bool:
        """Let the job wait again, for a next attempt; `died` counts towards `max_attempts`.

        A job whose cancel was asked for ends as cancelled instead.
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(jobs.c.cancel_requested).where(held_by(claim)).with_for_update()
            ).first()
            if row is None:
                return False
            if row.cancel_requested:
                return finish_in(connection, claim, Status.CANCELLED)
            _requeue(connection, claim.job.id, claim.job.attempt, reason=reason, died=died)
            return True

    def reconcile(self, *, ring_after_s: float) -> list[str]:
        """Put back the jobs whose lease ran out, and name all that wait without a bell for a while."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            lost = connection.execute(
                select(jobs.c.id, jobs.c.attempt, jobs.c.token, jobs.c.cancel_requested)
                .where(jobs.c.status.in_(HELD), _expired(now))
                .with_for_update(skip_locked=True)
            ).all()
            for row in lost:
                if row.cancel_requested:
                    _end_without_worker(connection, row.id, row.attempt)
                else:
                    _requeue(connection, row.id, row.attempt, reason="its worker stopped answering")
            silent = or_(
                jobs.c.rung_at.is_(None),
                jobs.c.rung_at < now.seconds - ring_after_s,
                jobs.c.rung_at > now.seconds,
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

    def holds(self, claim: Claim) -> bool:
        """Whether the token is still the row's."""
        with self._database.read() as connection:
            return connection.execute(select(jobs.c.seq).where(held_by(claim))).first() is not None


def held_by(claim: Claim) -> ColumnElement[bool]:
    """The condition that the row is still this claim's."""
    return and_(jobs.c.id == claim.job.id, jobs.c.token == claim.token, jobs.c.status.in_(HELD))


def lock(connection: Connection, claim: Claim) -> str | None:
    """Keep others from moving the row until the transaction ends; its status, None if the claim is void."""
    status: str | None = connection.execute(
        select(jobs.c.status).where(held_by(claim)).with_for_update()
    ).scalar()
    return status


def finish_in(
    connection: Connection,
    claim: Claim,
    status: Status,
    *,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> bool:
    """End the job inside the caller's transaction; False when the token is no longer the row's."""
    values: dict[str, Any] = {"status": status.value, "phase": None, "finished_at": time.time()}
    if result is not None:
        values["result"] = dict(result)
    if error is not None:
        values["error"] = dict(error)
    changed = connection.execute(
        update(jobs)
        .where(
            jobs.c.id == claim.job.id,
            jobs.c.token == claim.token,
            jobs.c.status.in_(sources_of(status)),
        )
        .values(owner=None, lease_until=None, **values)
    )
    if changed.rowcount == 0:
        return False
    record_status(connection, claim.job.id, status, attempt=claim.job.attempt, error=error)
    return True


def _expired(now: Instant) -> ColumnElement[bool]:
    # Another boot id means that the host went down with whoever held the lease.
    return or_(
        jobs.c.lease_until.is_(None),
        jobs.c.lease_until < now.seconds,
        jobs.c.lease_boot != now.boot,
    )


def _requeue(connection: Connection, job_id: str, attempt: int, *, reason: str, died: bool = False) -> None:
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            status=Status.QUEUED.value,
            phase=None,
            owner=None,
            lease_until=None,
            rung_at=None,
            token=jobs.c.token + 1,  # whoever held it is fenced from here on
            deaths=jobs.c.deaths + int(died),
        )
    )
    record_status(connection, job_id, Status.QUEUED, attempt=attempt, reason=reason)


def _end_without_worker(connection: Connection, job_id: str, attempt: int) -> None:
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            status=Status.CANCELLED.value,
            phase=None,
            owner=None,
            lease_until=None,
            token=jobs.c.token + 1,
            finished_at=time.time(),
        )
    )
    record_status(connection, job_id, Status.CANCELLED, attempt=attempt)


def _add_point(connection: Connection, job_id: str, data: Mapping[str, Any]) -> bool:
    """Add a point of the learning curves; False when an earlier attempt told this (epoch, step) already."""
    key = {"job_id": job_id, "epoch": data["epoch"], "step": data["step"]}
    known = connection.execute(select(curve_points.c.job_id).filter_by(**key)).first()
    if known is not None:
        return False
    connection.execute(insert(curve_points).values(**key, metrics=data["metrics"]))
    return True


def _tell_row(connection: Connection, job_id: str, event: ChildEvent) -> None:
    """Write on the row what an event says of it: its phase, its progress, its metrics."""
    row = jobs.c.id == job_id
    if event.kind is EventKind.STATUS:
        connection.execute(update(jobs).where(row).values(phase=event.data["phase"]))
    elif event.kind is EventKind.PROGRESS:
        connection.execute(update(jobs).where(row).values(progress=dict(event.data)))
    elif event.kind is EventKind.METRIC:
        known = connection.execute(select(jobs.c.metrics).where(row)).scalar() or {}
        last = {"epoch": event.data["epoch"], **event.data["metrics"]}
        best = _better(known.get("best"), last)
        connection.execute(update(jobs).where(row).values(metrics={"last": last, "best": best}))


def _better(best: Mapping[str, Any] | None, last: Mapping[str, Any]) -> Mapping[str, Any]:
    """The epoch with the lower validation loss, or training loss where nothing validates."""
    monitored = "val_loss" if "val_loss" in last else "loss"
    if best is None or monitored not in best or last.get(monitored, float("inf")) < best[monitored]:
        return last
    return best
