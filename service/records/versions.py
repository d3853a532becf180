"""Versions of models: a number is reserved once a job, and never used again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, case, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.jobs import EventKind, Status
from service.records.aliases import Alias, all_in
from service.records.claims import Claim, finish_in, lock
from service.records.database import Database
from service.records.history import append_event
from service.records.tables import jobs, models, versions


@dataclass(frozen=True)
class PublishedVersion:
    """A version that serving may see."""

    model: str
    number: int
    job_id: str
    manifest: Mapping[str, Any]
    created_at: float
    published_at: float


class VersionRecords:
    """The models and versions tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, claim: Claim, model: str, *, above: int = 0) -> int | None:
        """The number of this job's version, the same however often it is asked; None when fenced.

        `above` is the highest number in the store: a database restored from a backup may know less.
        """
        with self._database.write() as connection:
            known: int | None = connection.execute(
                select(versions.c.number).where(versions.c.job_id == claim.job.id)
            ).scalar()
            if known is not None:
                return known
            if not lock(connection, claim):
                return None
            dialect = sqlite if self._database.is_sqlite else postgresql
            connection.execute(
                dialect.insert(models)
                .values(name=model, last_number=0, created_at=time.time())
                .on_conflict_do_nothing()
            )
            last = models.c.last_number
            number: int = connection.execute(
                update(models)
                .where(models.c.name == model)
                .values(last_number=case((last < above, above), else_=last) + 1)
                .returning(models.c.last_number)
            ).scalar_one()
            connection.execute(
                insert(versions).values(
                    model=model, number=number, job_id=claim.job.id, status="reserved", created_at=time.time()
                )
            )
            return number

    def orphaned(self) -> list[tuple[str, int, str]]:
        """Model, number and job of every number whose job ended without publishing it."""
        query = (
            select(versions.c.model, versions.c.number, versions.c.job_id)
            .join(jobs, jobs.c.id == versions.c.job_id)
            .where(versions.c.status == "reserved", jobs.c.status.in_(ENDED))
        )
        with self._database.read() as connection:
            return [(row.model, row.number, row.job_id) for row in connection.execute(query)]

    def reserved(self, job_id: str) -> int | None:
        """The number that an earlier attempt of the job reserved, if any did."""
        with self._database.read() as connection:
            return connection.execute(select(versions.c.number).where(versions.c.job_id == job_id)).scalar()

    def published(
        self, claim: Claim, *, number: int, manifest: Mapping[str, Any], result: Mapping[str, Any]
    ) -> bool:
        """Mark the version published and its job succeeded, in one transaction; False when fenced."""
        with self._database.write() as connection:
            # The version's event comes before the terminal one, since streams close after that.
            if not lock(connection, claim):
                return False
            append_event(
                connection,
                claim.job.id,
                EventKind.VERSION,
                {"model": claim.job.name, "version": number},
                attempt=claim.job.attempt,
            )
            connection.execute(
                update(versions)
                .where(versions.c.job_id == claim.job.id)
                .values(status="published", manifest=dict(manifest), published_at=time.time())
            )
            connection.execute(
                update(jobs).where(jobs.c.id == claim.job.id).values(metrics=dict(manifest["metrics"]))
            )
            return finish_in(connection, claim, Status.SUCCEEDED, result=result)

    def added(
        self,
        claim: Claim,
        model: str,
        number: int,
        artifacts: Sequence[Mapping[str, Any]],
        result: Mapping[str, Any],
    ) -> bool:
        """List further artifacts with the version and mark their job succeeded; False when fenced."""
        with self._database.write() as connection:
            if not lock(connection, claim):
                return False
            one = (versions.c.model == model, versions.c.number == number)
            manifest = connection.execute(
                select(versions.c.manifest).where(*one).with_for_update()
            ).scalar_one()
            names = {artifact["name"] for artifact in artifacts}
            others = [each for each in manifest["artifacts"] if each["name"] not in names]
            connection.execute(
                update(versions).where(*one).values(manifest={**manifest, "artifacts": [*others, *artifacts]})
            )
            return finish_in(connection, claim, Status.SUCCEEDED, result=result)

    def get(self, model: str, number: int) -> PublishedVersion | None:
        """The published version, or None."""
        query = select(versions).where(
            versions.c.model == model, versions.c.number == number, versions.c.status == "published"
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return _version(row) if row else None

    def latest(self, model: str) -> PublishedVersion | None:
        """The published version with the highest number, or None."""
        query = (
            select(versions)
            .where(versions.c.model == model, versions.c.status == "published")
            .order_by(versions.c.number.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return _version(row) if row else None

    def of_model(self, model: str) -> list[PublishedVersion]:
        """All published versions of a model, newest first."""
        query = (
            select(versions)
            .where(versions.c.model == model, versions.c.status == "published")
            .order_by(versions.c.number.desc())
        )
        with self._database.read() as connection:
            return [_version(row) for row in connection.execute(query)]

    def numbers(self, *, after: str = "", limit: int | None = None) -> dict[str, list[int]]:
        """Models with a published version, by name from after `after` on, and their numbers, newest first."""
        published = versions.c.status == "published"
        names = (
            select(versions.c.model)
            .where(published, versions.c.model > after)
            .distinct()
            .order_by(versions.c.model)
            .limit(limit)
        )
        query = (
            select(versions.c.model, versions.c.number)
            .where(published, versions.c.model.in_(names.scalar_subquery()))
            .order_by(versions.c.model, versions.c.number.desc())
        )
        found: dict[str, list[int]] = {}
        with self._database.read() as connection:
            for model, number in connection.execute(query):
                found.setdefault(model, []).append(number)
        return found

    def under_lock(self, write: Callable[[dict[str, int], Sequence[Alias]], None]) -> None:
        """Call `write` with the newest published number of every model, and all aliases, while no other may.

        The lock is the write transaction itself (SQLite) or an advisory lock that ends with it (PostgreSQL),
        so that two workers never replace models.config in the wrong order.
        """
        with self._database.write() as connection:
            if not self._database.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_CONFIG_LOCK)))
            rows = connection.execute(
                select(versions.c.model, func.max(versions.c.number))
                .where(versions.c.status == "published")
                .group_by(versions.c.model)
                .order_by(versions.c.model)
            )
            latest = {model: number for model, number in rows}  # noqa: C416 - rows, not pairs
            write(latest, all_in(connection))


ENDED = (Status.CANCELLED.value, Status.FAILED.value)
_CONFIG_LOCK = 0x6669747365727665  # "fitserve"


def _version(row: Row[Any]) -> PublishedVersion:
    return PublishedVersion(
        model=row.model,
        number=row.number,
        job_id=row.job_id,
        manifest=row.manifest,
        created_at=row.created_at,
        published_at=row.published_at,
    )
