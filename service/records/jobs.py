"""Jobs as their owners see them: create, look up, list, cancel, and read their history."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, not_, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import Fault, IdempotencyConflictError, SpecRefusedError
from service.jobs import Event, EventKind, Job, Kind, NewJob, SlotKind, Status, Transition, digest_of
from service.records.database import Database
from service.records.history import begin, record_status
from service.records.tables import (
    curve_points,
    dataset_uses,
    datasets,
    events,
    idempotency_keys,
    jobs,
    transitions,
)
from service.records.together import Together
from service.uris import place_of_uri

_JOB_FIELDS = tuple(field.name for field in fields(Job))


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    kinds: Sequence[Kind] = ()
    status: Status | None = None
    model: str | None = None
    label: tuple[str, str] | None = None


@dataclass(frozen=True)
class QueuePlace:
    """How many waiting jobs of the same kind of slot go first, counted from 1."""

    position: int
    priority: int


class JobRecords:
    """The jobs table, as seen by whoever submits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._submit = Together(self._insert_all)

    def submit(self, new: NewJob) -> tuple[Job, QueuePlace]:
        """Insert a queued job, in one transaction with those that come in at the same time; its place too."""
        return self._submit(new)

    def _insert_all(self, asked: Sequence[NewJob]) -> list[tuple[Job, QueuePlace]]:
        with self._database.write() as connection:
            made = [insert_job(connection, new, self._database) for new in asked]
            places = _places(connection, made)
        return [(job, QueuePlace(places[job.id], job.priority)) for job in made]

    def repeated(self, idempotency_key: str, body_digest: str) -> Job | None:
        """The job that an earlier request with this key and body made, or None.

        Raises:
            IdempotencyConflictError: the key came with another body before.
        """
        with self._database.read() as connection:
            return _by_key(connection, idempotency_key, body_digest)

    def create(self, new: NewJob, *, idempotency_key: str | None = None, body_digest: str = "") -> Job:
        """Insert a queued job; a repeat of the same key and body answers with the first one's job.

        Raises:
            IdempotencyConflictError: the key came with another body before.
        """
        try:
            with self._database.write() as connection:
                if idempotency_key is not None:
                    known = _by_key(connection, idempotency_key, body_digest)
                    if known is not None:
                        return known
                job = insert_job(connection, new, self._database)
                if idempotency_key is not None:
                    connection.execute(
                        insert(idempotency_keys).values(
                            key=idempotency_key,
                            body_digest=body_digest,
                            job_id=new.id,
                            created_at=time.time(),
                        )
                    )
                return job
        except IntegrityError:
            # Another API process committed the same key between our look and our insert.
            if idempotency_key is None:
                raise
            with self._database.read() as connection:
                known = _by_key(connection, idempotency_key, body_digest)
            if known is None:
                raise
            return known

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
            return job_of(row) if row else None

    def page(self, where: JobFilter, *, before_seq: int | None, limit: int) -> list[Job]:
        """At most `limit` jobs, newest first, older than submission number `before_seq`."""
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit)
        if where.kinds:
            query = query.where(jobs.c.kind.in_([kind.value for kind in where.kinds]))
        if where.status:
            query = query.where(jobs.c.status == where.status.value)
        if where.model:
            query = query.where(jobs.c.name == where.model)
        if where.label:
            query = query.where(jobs.c.labels[where.label[0]].as_string() == where.label[1])
        if before_seq is not None:
            query = query.where(jobs.c.seq < before_seq)
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def cancel(self, job_id: str) -> Job | None:
        """Ask for an end: a waiting job is cancelled at once, a running one is told to stop.

        On a job that is cancelling or cancelled already this changes nothing; on one that succeeded or
        failed neither: the caller sees its status.
        """
        with self._database.write() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
            if row is None:
                return None
            job = job_of(row)
            if job.status is Status.QUEUED:
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == job_id)
                    .values(
                        status=Status.CANCELLED.value,
                        cancel_requested=True,
                        token=jobs.c.token + 1,
                        finished_at=time.time(),
                    )
                )
                record_status(connection, job_id, Status.CANCELLED, attempt=job.attempt)
            elif job.status is Status.RUNNING:
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == job_id)
                    .values(status=Status.CANCELLING.value, cancel_requested=True)
                )
                record_status(connection, job_id, Status.CANCELLING, attempt=job.attempt)
        return self.get(job_id)

    def events(
        self, job_id: str, *, after: int = 0, limit: int = 100, kinds: Sequence[EventKind] = ()
    ) -> list[Event]:
        """At most `limit` events with a number above `after`, in order."""
        query = (
            select(events)
            .where(events.c.job_id == job_id, events.c.n > after)
            .order_by(events.c.n)
            .limit(limit)
        )
        if kinds:
            query = query.where(events.c.kind.in_([kind.value for kind in kinds]))
        with self._database.read() as connection:
            return [
                Event(n=row.n, kind=EventKind(row.kind), attempt=row.attempt, data=row.data, at=row.at)
                for row in connection.execute(query)
            ]

    def curves(self, job_id: str) -> list[dict[str, Any]]:
        """The learning curves: one `{epoch, step, metrics}` an epoch, in order."""
        query = (
            select(curve_points)
            .where(curve_points.c.job_id == job_id)
            .order_by(curve_points.c.epoch, curve_points.c.step)
        )
        with self._database.read() as connection:
            return [
                {"epoch": row.epoch, "step": row.step, "metrics": row.metrics}
                for row in connection.execute(query)
            ]

    def transitions(self, job_id: str) -> list[Transition]:
        """Every move of the job's status, dated, in order."""
        return self.transitions_of([job_id])[job_id]

    def transitions_of(self, job_ids: Sequence[str]) -> dict[str, list[Transition]]:
        """The same of each of these jobs, with one query."""
        query = (
            select(transitions)
            .where(transitions.c.job_id.in_(job_ids))
            .order_by(transitions.c.job_id, transitions.c.n)
        )
        found: dict[str, list[Transition]] = {job_id: [] for job_id in job_ids}
        with self._database.read() as connection:
            for row in connection.execute(query):
                move = Transition(
                    status=Status(row.status), attempt=row.attempt, reason=row.reason, at=row.at
                )
                found[row.job_id].append(move)
        return found

    def queue_place(self, job: Job) -> QueuePlace | None:
        """Where a waiting job stands in its line; None for one that doesn't wait."""
        return self.queue_places([job]).get(job.id)

    def queue_places(self, found: Sequence[Job]) -> dict[str, QueuePlace]:
        """The same of each of these jobs that waits, with one query."""
        waiting = {job.id: job for job in found if job.status is Status.QUEUED}
        if not waiting:
            return {}
        with self._database.read() as connection:
            return {
                job_id: QueuePlace(position, waiting[job_id].priority)
                for slot in {job.kind.slot for job in waiting.values()}
                for job_id, position in _positions(
                    connection, slot, [job for job in waiting.values() if job.kind.slot is slot]
                )
            }


def _positions(connection: Connection, slot: SlotKind, of: Sequence[Job]) -> Iterator[tuple[str, int]]:
    """The places of these waiting jobs in the line of one kind of slot.

    Those ahead of the best of them are only counted; a line may be long.
    """
    ranked = sorted(of, key=lambda job: (-job.priority, job.seq))
    best, worst = ranked[0], ranked[-1]
    count = _ahead_of(connection, best)
    between = {"best": best.priority, "first": best.seq, "worst": worst.priority, "last": worst.seq}
    wanted = {job.id for job in of}
    line = connection.execute(_LINE, {"slot": slot.value, **between}).scalars()
    # A job that a worker has taken since stands in no line.
    for place, job_id in enumerate(line, start=count + 1):
        if job_id in wanted:
            yield job_id, place


def _places(connection: Connection, made: Sequence[Job]) -> dict[str, int]:
    """The places of jobs that have just been inserted, in this order: the last of their priority.

    A long line is counted once for all of one priority.
    """
    places: dict[str, int] = {}
    ends: dict[tuple[SlotKind, int], int] = {}
    for job in made:
        line = (job.kind.slot, job.priority)
        ends[line] = ends[line] + 1 if line in ends else _ahead_of(connection, job) + 1
        places[job.id] = ends[line]
    return places


def _ahead_of(connection: Connection, job: Job) -> int:
    """How many waiting jobs of the same kind of slot go before this one."""
    at = {"slot": job.kind.slot.value, "best": job.priority, "first": job.seq}
    count: int = connection.execute(_AHEAD, at).scalar_one()
    return count


_IN_LINE = and_(jobs.c.slot == bindparam("slot"), jobs.c.status == Status.QUEUED.value)
_BETTER = or_(
    jobs.c.priority > bindparam("best"),
    and_(jobs.c.priority == bindparam("best"), jobs.c.seq < bindparam("first")),
)
_NOT_WORSE = or_(
    jobs.c.priority > bindparam("worst"),
    and_(jobs.c.priority == bindparam("worst"), jobs.c.seq <= bindparam("last")),
)
_AHEAD = select(func.count()).where(_IN_LINE, _BETTER)
_LINE = (
    select(jobs.c.id).where(_IN_LINE, not_(_BETTER), _NOT_WORSE).order_by(jobs.c.priority.desc(), jobs.c.seq)
)


def job_of(row: Row[Any]) -> Job:
    """The row as a Job."""
    values = {name: row._mapping[name] for name in _JOB_FIELDS}
    values["kind"] = Kind(values["kind"])
    values["status"] = Status(values["status"])
    return Job(**values)


_INSERT = insert(jobs).returning(jobs.c.seq)


def insert_job(connection: Connection, new: NewJob, database: Database) -> Job:
    """Insert a queued job inside the caller's transaction."""
    created_at = time.time()
    waits_since = database.now(connection) if new.limits.max_pending_s is not None else None
    values: dict[str, Any] = {
        "id": new.id,
        "kind": new.kind.value,
        "name": new.name,
        "slot": new.kind.slot.value,
        "priority": new.priority,
        "status": Status.QUEUED.value,
        "spec": dict(new.spec),
        "spec_digest": digest_of(new.spec),
        "dataset_id": new.dataset_id,
        "dataset_digest": new.dataset_digest,
        "seed": new.seed,
        "labels": dict(new.labels),
        "max_attempts": new.limits.max_attempts,
        "max_pending_s": new.limits.max_pending_s,
        "max_runtime_s": new.limits.max_runtime_s,
        "memory_bytes": new.limits.memory_bytes,
        "since": waits_since.seconds if waits_since else None,
        "since_boot": waits_since.boot if waits_since else None,
        "created_at": created_at,
        **_UNTOUCHED,
    }
    if new.datasets:
        _require_datasets(connection, new.datasets)
    seq = connection.execute(_INSERT, values).scalar_one()
    if new.datasets:
        uses = [{"job_id": new.id, "use": use, "dataset_id": id_} for use, id_ in new.datasets.items()]
        connection.execute(insert(dataset_uses), uses)
    begin(connection, new.id, created_at)
    recorded: dict[str, Any] = {name: values.get(name) for name in _JOB_FIELDS}
    return Job(**recorded | {"seq": seq, "kind": new.kind, "status": Status.QUEUED})


def _require_datasets(connection: Connection, used: Mapping[str, str]) -> None:
    """See that they are still there, and keep others from deleting them until the transaction ends."""
    wanted = set(used.values())
    there = select(datasets.c.id).where(datasets.c.id.in_(wanted)).with_for_update(read=True)
    gone = wanted - set(connection.execute(there).scalars())
    if gone:
        raise SpecRefusedError(
            [
                Fault(place_of_uri(use), f"data set {id_} has just been deleted")
                for use, id_ in used.items()
                if id_ in gone
            ]
        )


_UNTOUCHED = {
    "token": 0,
    "attempt": 0,
    "deaths": 0,
    "ran_s": 0.0,
    "cancel_requested": False,
    "last_event": 1,
}
"""What nobody has written to a new row yet, besides what is null."""


def _by_key(connection: Connection, key: str, body_digest: str) -> Job | None:
    row = connection.execute(
        select(jobs, idempotency_keys.c.body_digest)
        .join(idempotency_keys, idempotency_keys.c.job_id == jobs.c.id)
        .where(idempotency_keys.c.key == key)
    ).first()
    if row is None:
        return None
    if row.body_digest != body_digest:
        raise IdempotencyConflictError(f"the Idempotency-Key {key!r} came with another body before")
    return job_of(row)
