"""One engine for SQLite and PostgreSQL: transactions that read or write, and the clock of leases."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.errors import DatabaseUnavailableError

MIGRATIONS = Path(__file__).parent.parent / "migrations"

# A peer that is frozen or cut off must not hold its rows, nor wait for an answer, longer than a lease or so.
POSTGRESQL_LIMITS = {
    "connect_timeout": 5,
    "options": "-c idle_in_transaction_session_timeout=15s -c lock_timeout=10s",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


# SQLite's own comes from the statement that begins a transaction.
UNAVAILABLE = (OperationalError, PoolTimeoutError, sqlite3.OperationalError)


@dataclass(frozen=True)
class Instant:
    """A moment on the lease clock, in seconds, valid within one boot."""

    seconds: float
    boot: str


class Database:
    """The engine behind every record.

    SQLite runs with a write-ahead log, immediate transactions and one writer per process: readers never
    wait, and writers queue here instead of in SQLite's busy loop, which is unfair (p99 185 ms against 52 ms).
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        if self.is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        connect_args: dict[str, Any] = (
            {"timeout": 30, "isolation_level": None} if self.is_sqlite else dict(POSTGRESQL_LIMITS)
        )
        self.engine = create_engine(
            parsed, connect_args=connect_args, pool_pre_ping=not self.is_sqlite, pool_size=10, max_overflow=20
        )
        self._writing = threading.Lock()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing.

        Raises:
            DatabaseUnavailableError: the database did not answer.
        """
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except UNAVAILABLE as error:
            raise DatabaseUnavailableError(str(getattr(error, "orig", error))) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is kept whole or not at all.

        Raises:
            DatabaseUnavailableError: the database did not answer; nothing was kept.
        """
        try:
            with self._writing if self.is_sqlite else nullcontext(), self.engine.connect() as connection:
                connection.execution_options(fitserve_write=True)
                with connection.begin():
                    yield connection
        except UNAVAILABLE as error:
            raise DatabaseUnavailableError(str(getattr(error, "orig", error))) from error

    def now(self, connection: Connection) -> Instant:
        """The clock of leases: PostgreSQL's own, or for SQLite the host's time since boot.

        Neither moves when somebody steps the wall clock of an API or worker host.
        """
        if self.is_sqlite:
            return Instant(time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id())
        seconds = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        return Instant(float(seconds), "server")

    def migrate(self) -> None:
        """Bring the schema to the newest revision; harmless when it is there already."""
        # A third of a second to import, which only `service.init` has to spend.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["engine"] = self.engine
        command.upgrade(config, "head")

    def ping(self) -> None:
        """Ask the database for a 1.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _prepare_sqlite(dbapi_connection: Any, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's hook is untyped
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: a deferred transaction that upgrades can fail half-way.
    writes = connection.get_execution_options().get("fitserve_write", False)
    # The driver's own call: SQLAlchemy's costs as much again as a short query.
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
