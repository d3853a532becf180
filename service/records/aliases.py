"""Aliases: names for versions of a model, which TensorFlow Serving calls labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from service.records.database import Database
from service.records.tables import aliases, versions


@dataclass(frozen=True)
class Alias:
    """A name for `version`; `assigned` is the version that serving answers by it, None before the first."""

    model: str
    name: str
    version: int
    assigned: int | None
    updated_at: float


class AliasRecords:
    """The table of aliases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, model: str, name: str, version: int) -> Alias | None:
        """Point an alias, new or known, at a version; None if no such version is published.

        Serving goes on with the version it has by that name until the new one is `assigned`.
        """
        one = _one(model, name)
        with self._database.write() as connection:
            published = select(versions.c.number).where(
                versions.c.model == model, versions.c.number == version, versions.c.status == "published"
            )
            if connection.execute(published).first() is None:
                return None
            now = time.time()
            changed = update(aliases).where(*one).values(version=version, updated_at=now)
            if connection.execute(changed).rowcount == 0:
                row = {"model": model, "name": name, "version": version, "updated_at": now}
                connection.execute(insert(aliases).values(**row))
            return _alias(connection.execute(select(aliases).where(*one)).one())

    def remove(self, model: str, name: str) -> bool:
        """Take an alias away; False if there was none."""
        with self._database.write() as connection:
            return connection.execute(delete(aliases).where(*_one(model, name))).rowcount > 0

    def get(self, model: str, name: str) -> Alias | None:
        """The alias, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(aliases).where(*_one(model, name))).first()
            return _alias(row) if row else None

    def of_models(self, models: Sequence[str]) -> list[Alias]:
        """All aliases of these models, by name."""
        query = select(aliases).where(aliases.c.model.in_(models)).order_by(aliases.c.name)
        with self._database.read() as connection:
            return [_alias(row) for row in connection.execute(query)]

    def unassigned(self) -> list[Alias]:
        """The aliases that serving doesn't answer by yet, or by another version."""
        query = select(aliases).where(aliases.c.assigned.is_distinct_from(aliases.c.version))
        with self._database.read() as connection:
            return [_alias(row) for row in connection.execute(query)]

    def assign(self, alias: Alias) -> bool:
        """Let serving answer by the alias, if it still points at the version seen; else False."""
        still = (*_one(alias.model, alias.name), aliases.c.version == alias.version)
        with self._database.write() as connection:
            changed = update(aliases).where(*still).values(assigned=alias.version)
            return connection.execute(changed).rowcount > 0


def all_in(connection: Connection) -> Sequence[Alias]:
    """Every alias, as a transaction sees them."""
    return [_alias(row) for row in connection.execute(select(aliases))]


def _one(model: str, name: str) -> tuple[Any, Any]:
    return aliases.c.model == model, aliases.c.name == name


def _alias(row: Row[Any]) -> Alias:
    return Alias(row.model, row.name, row.version, row.assigned, row.updated_at)
