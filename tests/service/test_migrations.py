from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from service.records import Records


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Records, Records]]:
    """Two processes' worth of records on one empty SQLite file."""
    made = [Records(f"sqlite:///{tmp_path}/records.db") for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.close()


def test_a_migration_waits_for_a_writer_that_is_at_work(two: tuple[Records, Records]) -> None:
    """One that only reads at first would fail at its first table: what it read is old by then."""
    writer, migrated = two
    begins = threading.Event()

    def begin(connection: sqlalchemy.Connection) -> None:
        if connection.engine is migrated.database.engine:
            begins.set()

    sqlalchemy.event.listen(sqlalchemy.Engine, "begin", begin)  # before the engine's own, which waits
    failed: list[BaseException] = []

    def migrate() -> None:
        try:
            migrated.database.migrate()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=migrate)
    with writer.database.write() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE another (x INTEGER)"))
        thread.start()
        assert begins.wait(timeout=10)
    sqlalchemy.event.remove(sqlalchemy.Engine, "begin", begin)
    thread.join(timeout=20)
    assert failed == []
    assert migrated.jobs.get("job_1") is None  # the table is there
