"""Moves and events of a job, written inside the transaction that causes them, so none is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update

from service.jobs import MOVES, EventKind, Status
from service.records.tables import events, jobs, transitions

_MOVE = insert(transitions)
_EVENT = insert(events)


def begin(connection: Connection, job_id: str, at: float) -> None:
    """Write the first move and the first event of a row just inserted, whose `last_event` is 1 already."""
    status = Status.QUEUED.value
    connection.execute(
        _MOVE, {"job_id": job_id, "n": 1, "status": status, "attempt": 0, "reason": "", "at": at}
    )
    kind, data = EventKind.STATUS.value, {"status": status}
    connection.execute(
        _EVENT,
        {"job_id": job_id, "n": 1, "kind": kind, "attempt": 0, "child_n": None, "data": data, "at": at},
    )


def append_event(
    connection: Connection,
    job_id: str,
    kind: EventKind,
    data: Mapping[str, Any],
    *,
    attempt: int,
    child_n: int | None = None,
    at: float | None = None,
) -> int:
    """Give the event the job's next number and store it; return the number."""
    n: int = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(last_event=jobs.c.last_event + 1)
        .returning(jobs.c.last_event)
    ).scalar_one()
    connection.execute(
        insert(events).values(
            job_id=job_id,
            n=n,
            kind=kind.value,
            attempt=attempt,
            child_n=child_n,
            data=dict(data),
            at=time.time() if at is None else at,
        )
    )
    return n


def record_status(
    connection: Connection,
    job_id: str,
    status: Status,
    *,
    attempt: int,
    reason: str = "",
    error: Mapping[str, Any] | None = None,
) -> None:
    """Date a move that the caller has just written to the row, and tell it as an event."""
    at = time.time()
    n = connection.execute(
        select(transitions.c.n)
        .where(transitions.c.job_id == job_id)
        .order_by(transitions.c.n.desc())
        .limit(1)
    ).scalar()
    connection.execute(
        insert(transitions).values(
            job_id=job_id, n=(n or 0) + 1, status=status.value, attempt=attempt, reason=reason, at=at
        )
    )
    data: dict[str, Any] = {"status": status.value}
    if reason:
        data["reason"] = reason
    if error:
        data["error"] = dict(error)
    append_event(connection, job_id, EventKind.STATUS, data, attempt=attempt, at=at)


def sources_of(target: Status) -> tuple[str, ...]:
    """The statuses from which `target` may be reached, for the WHERE of the update that goes there."""
    return tuple(source.value for source, targets in MOVES.items() if target in targets)
