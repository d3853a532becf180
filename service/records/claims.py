"""Jobs as workers see them: claim one, keep its lease, store what its child tells, let it go.

Every write here names the token that the claim was given. A token that is no longer the row's means that
another attempt owns the job: nothing is written, and the caller is told so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.jobs import EventKind, Job, Phase, SlotKind, Status
from service.protocol import boot_clock
from service.records.database import Database, Instant
from service.records.history import append_event, record_status, sources_of
from service.records.jobs import job_of
from service.records.tables import dataset_uses, datasets, events, jobs
from service.records.telling import ChildEvent, store_told

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


class Claims:
    """The jobs table, as seen by whoever does the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_next(self, slot: SlotKind, owner: str, lease_s: float) -> Claim | None:
        """Take the best waiting job that a slot of this kind can run: by priority, then submission number."""
        since = boot_clock()
        with self._database.write() as connection:
            now = self._database.now(connection)
            best = (
                select(jobs.c.id, jobs.c.token)
                .where(
                    jobs.c.slot == slot.value, jobs.c.status == Status.QUEUED.value, _may_start(now), ~UNREAD
                )
                .order_by(jobs.c.priority.desc(), jobs.c.seq)
                .limit(1)
            )
            # Whoever else changes the best one now is waited for, and then it is looked again: skipping a
            # locked row would let a later job pass it.
            while (found := connection.execute(best).first()) is not None:
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
                        since=now.seconds,
                        since_boot=now.boot,
                        not_before=None,
                        error=None,
                    )
                    .returning(*jobs.c)
                ).first()
                if row is not None:
                    break
            else:
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

    def last_told(self, job_id: str, attempt: int) -> int:
        """The number of the last event of this attempt's child that is stored; 0 if none is."""
        query = select(func.max(events.c.child_n)).where(
            events.c.job_id == job_id, events.c.attempt == attempt
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar() or 0

    def append(self, claim: Claim, told: Sequence[ChildEvent], *, attempt: int | None = None) -> bool:
        """Store what a child told, once each, in order; False when the job is somebody else's by now.

        `attempt` names an earlier attempt whose worker died before it could store its child's last events.
        """
        number = claim.job.attempt if attempt is None else attempt
        with self._database.write() as connection:
            status = lock(connection, claim)
            if status is None:
                return False
            store_told(connection, claim.job.id, told, attempt=number, status=status)
        return True

    def enter(self, claim: Claim, phase: Phase) -> bool:
        """Say that the worker itself entered a phase, once; False when the job is somebody else's by now."""
        with self._database.write() as connection:
            status = lock(connection, claim)
            if status is None:
                return False
            row = jobs.c.id == claim.job.id
            entered = connection.execute(
                update(jobs).where(row, jobs.c.phase != phase.value).values(phase=phase.value)
            )
            if entered.rowcount == 0:
                return True
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

    def put_back(self, claim: Claim, *, reason: str, died: bool = False, wait_s: float = 0.0) -> bool:
        """Let the job wait again, for a next attempt, which starts in `wait_s` seconds at the earliest.

        `died` counts towards `max_attempts`. A job whose cancel was asked for ends as cancelled instead.
        """
        with self._database.write() as connection:
            row = connection.execute(select(*REQUEUED).where(held_by(claim)).with_for_update()).first()
            if row is None:
                return False
            if row.cancel_requested:
                return finish_in(connection, claim, Status.CANCELLED)
            now = self._database.now(connection)
            requeue(connection, row, now, reason=reason, died=died, wait_s=wait_s)
            return True

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


REQUEUED = (
    jobs.c.id,
    jobs.c.attempt,
    jobs.c.cancel_requested,
    jobs.c.since,
    jobs.c.since_boot,
    jobs.c.lease_until,
    jobs.c.lease_boot,
    jobs.c.ran_s,
)
"""The columns that `requeue` reads."""


def requeue(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    now: Instant,
    *,
    reason: str,
    died: bool = False,
    wait_s: float = 0.0,
) -> None:
    """Let a held row wait again inside the caller's transaction; whoever held it is fenced from here on."""
    ran_s = 0.0
    if row.since is not None and row.lease_until is not None and row.since_boot == row.lease_boot:
        # A worker that fell silent, or its host, is believed to have worked to the end of its lease.
        until = min(now.seconds, row.lease_until) if now.boot == row.lease_boot else row.lease_until
        ran_s = max(0.0, until - row.since)
    connection.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(
            status=Status.QUEUED.value,
            phase=None,
            owner=None,
            lease_until=None,
            rung_at=None,
            since=now.seconds,
            since_boot=now.boot,
            not_before=now.seconds + wait_s if wait_s else None,
            ran_s=row.ran_s + ran_s,
            token=jobs.c.token + 1,
            deaths=jobs.c.deaths + int(died),
        )
    )
    record_status(connection, row.id, Status.QUEUED, attempt=row.attempt, reason=reason)


UNREAD = (
    select(datasets.c.seq)
    .join(dataset_uses, dataset_uses.c.dataset_id == datasets.c.id)
    .where(dataset_uses.c.job_id == jobs.c.id, datasets.c.kind.is_(None))
    .exists()
)
"""The condition that a data set of the job has not been read yet: it waits until then."""


def _may_start(now: Instant) -> ColumnElement[bool]:
    """The condition that no back-off is left; one of another boot is over."""
    return or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now.seconds, jobs.c.since_boot != now.boot)
