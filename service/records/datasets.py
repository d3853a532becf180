"""Uploaded data sets: content-addressed files and what was found in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import NameTakenError
from service.records.database import Database
from service.records.tables import datasets


@dataclass(frozen=True)
class Dataset:
    """What is recorded of an upload. `status` is pending, ready or failed."""

    id: str
    seq: int
    name: str | None
    digest: str
    size_bytes: int
    filename: str
    kind: str | None
    status: str
    schema: Mapping[str, Any] | None
    statistics: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    ingest_id: str | None
    created_at: float


_FIELDS = tuple(field.name for field in fields(Dataset))


class DatasetRecords:
    """The data sets table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, *, dataset_id: str, name: str | None, digest: str, size_bytes: int, filename: str
    ) -> Dataset:
        """Record an upload; the same content under the same name is the same data set.

        Raises:
            NameTakenError: the name belongs to other content.
        """
        known = self._named(name) if name else self.get(dataset_id)
        if known is None:
            try:
                with self._database.write() as connection:
                    connection.execute(
                        insert(datasets).values(
                            id=dataset_id,
                            name=name,
                            digest=digest,
                            size_bytes=size_bytes,
                            filename=filename,
                            status="pending",
                            created_at=time.time(),
                        )
                    )
            except IntegrityError:
                known = self._named(name) if name else None  # another upload was quicker
                if known is None:
                    known = self.get(dataset_id)
        if known is not None and known.digest != digest:
            raise NameTakenError(f"the name {name!r} belongs to a data set with other content, {known.id}")
        found = known or self.get(dataset_id)
        assert found is not None
        return found

    def get(self, dataset_id: str) -> Dataset | None:
        """The data set of this id, or None."""
        return self._one(datasets.c.id == dataset_id)

    def find(self, id_or_name: str) -> Dataset | None:
        """The data set of this id or unique name, or None."""
        return self._one(or_(datasets.c.id == id_or_name, datasets.c.name == id_or_name))

    def page(self, *, before_seq: int | None, limit: int) -> list[Dataset]:
        """At most `limit` data sets, newest first."""
        query = select(datasets).order_by(datasets.c.seq.desc()).limit(limit)
        if before_seq is not None:
            query = query.where(datasets.c.seq < before_seq)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(query)]

    def ingesting(self, dataset_id: str, job_id: str) -> None:
        """Remember which short row reads it."""
        self._update(dataset_id, ingest_id=job_id, status="pending", error=None)

    def ready(
        self, dataset_id: str, *, kind: str, schema: Mapping[str, Any], statistics: Mapping[str, Any]
    ) -> None:
        """Keep what ingest found."""
        self._update(
            dataset_id,
            status="ready",
            kind=kind,
            schema=dict(schema),
            statistics=dict(statistics),
            error=None,
        )

    def failed(self, dataset_id: str, error: Mapping[str, Any]) -> None:
        """Keep why it can't be read."""
        self._update(dataset_id, status="failed", error=dict(error))

    def _update(self, dataset_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(datasets).where(datasets.c.id == dataset_id).values(**values))

    def _named(self, name: str) -> Dataset | None:
        return self._one(datasets.c.name == name)

    def _one(self, where: Any) -> Dataset | None:  # noqa: ANN401 - a SQL expression
        with self._database.read() as connection:
            row = connection.execute(select(datasets).where(where)).first()
            return _dataset(row) if row else None


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(**{name: row._mapping[name] for name in _FIELDS})
