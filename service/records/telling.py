"""What a child told, written to its job: events, learning curves, phase, progress, diagnosis and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from service.jobs import EventKind
from service.records.history import append_event
from service.records.tables import curve_points, events, jobs


@dataclass(frozen=True)
class ChildEvent:
    """One event of a child, under the number the child gave it."""

    n: int
    kind: EventKind
    data: Mapping[str, Any]
    at: float


def store_told(
    connection: Connection, job_id: str, told: Sequence[ChildEvent], *, attempt: int, status: str
) -> None:
    """Store these once each, in order, inside a transaction that has locked the row of the job.

    `status` is the row's; `attempt` names the attempt whose child told them.
    """
    if not told:
        return
    last = connection.execute(
        select(events.c.child_n)
        .where(events.c.job_id == job_id, events.c.attempt == attempt, events.c.child_n.is_not(None))
        .order_by(events.c.child_n.desc())
        .limit(1)
    ).scalar()
    for event in told:
        if last is not None and event.n <= last:
            continue
        if event.kind is EventKind.METRIC and not _add_point(connection, job_id, event.data):
            continue
        # A child knows its phase, but not that somebody is cancelling the job.
        data = {**event.data, "status": status} if event.kind is EventKind.STATUS else event.data
        append_event(connection, job_id, event.kind, data, attempt=attempt, child_n=event.n, at=event.at)
        _tell_row(connection, job_id, event)


def _add_point(connection: Connection, job_id: str, data: Mapping[str, Any]) -> bool:
    """Add a point of the learning curves; False when an earlier attempt told this (epoch, step) already."""
    key = {"job_id": job_id, "epoch": data["epoch"], "step": data["step"]}
    known = connection.execute(select(curve_points.c.job_id).filter_by(**key)).first()
    if known is not None:
        return False
    connection.execute(insert(curve_points).values(**key, metrics=data["metrics"]))
    return True


def _tell_row(connection: Connection, job_id: str, event: ChildEvent) -> None:
    """Write on the row what an event says of it: its phase, its progress, its diagnosis, its metrics."""
    row = jobs.c.id == job_id
    if event.kind is EventKind.STATUS:
        connection.execute(update(jobs).where(row).values(phase=event.data["phase"]))
    elif event.kind is EventKind.PROGRESS:
        progress = dict(event.data)
        pipeline = progress.pop("pipeline", None)
        if progress:
            connection.execute(update(jobs).where(row).values(progress=progress))
        if pipeline is not None:
            connection.execute(update(jobs).where(row).values(pipeline=pipeline))
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
