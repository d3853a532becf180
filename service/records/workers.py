"""Workers and what they can do: the API learns of slots and formats here, never by importing them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from service.records.database import Database
from service.records.tables import workers

SILENCE_S = 15.0
"""A worker that said nothing for so long is taken for gone."""


@dataclass(frozen=True)
class Worker:
    """A worker that was seen lately."""

    id: str
    capabilities: Mapping[str, Any]
    silent_s: float


class WorkerRecords:
    """The workers table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def seen(self, worker_id: str, capabilities: Mapping[str, Any]) -> None:
        """Say that the worker is there; its first call makes the row."""
        dialect = sqlite if self._database.is_sqlite else postgresql
        with self._database.write() as connection:
            now = self._database.now(connection)
            fresh = {"capabilities": dict(capabilities), "seen_at": now.seconds, "seen_boot": now.boot}
            connection.execute(
                dialect.insert(workers)
                .values(id=worker_id, started_at=time.time(), **fresh)
                .on_conflict_do_update(index_elements=["id"], set_=fresh)
            )

    def gone(self, worker_id: str) -> None:
        """Forget a worker that has left in order."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker_id))

    def present(self, *, within_s: float = SILENCE_S) -> list[Worker]:
        """Workers that were seen within so many seconds."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            rows = connection.execute(
                select(workers).where(
                    workers.c.seen_boot == now.boot, workers.c.seen_at >= now.seconds - within_s
                )
            ).all()
        return [Worker(row.id, row.capabilities, now.seconds - row.seen_at) for row in rows]
