from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from service.jobs import Job, Limits
from service.kind import Site
from service.processes import find_redis, redis_flags, socket_flags
from service.records import Records
from service.settings import Settings
from service.submission import new_training_job
from serving.store import Store
from tests.acceptance.stack import wait_for
from tests.service.web import TABLE, Web, serving
from tests.service.workbench import NOBODY, SPEC, Submit, child_that, new, put_tiny


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that is supported."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    base = sqlalchemy.make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+psycopg")
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = sqlalchemy.create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return base.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def records(database_url: str) -> Iterator[Records]:
    """Migrated records, empty."""
    made = Records(database_url)
    made.database.migrate()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        broker_url=NOBODY,
        reconcile_s=0.1,
        grace_s=0.2,
        standby=False,
        log_level="CRITICAL",
    )


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    """The same on SQLite alone, migrated: for what no database has a part in."""
    made = Settings(
        home=tmp_path / "home",
        broker_url=NOBODY,
        reconcile_s=0.1,
        grace_s=0.2,
        standby=False,
        log_level="CRITICAL",
    )
    records = Records(made.effective_database_url)
    records.database.migrate()
    records.close()
    return made


@pytest.fixture
def own_records(local: Settings) -> Iterator[Records]:
    made = Records(local.effective_database_url)
    yield made
    made.close()


@pytest.fixture
def site(settings: Settings, records: Records) -> Site:
    return Site(settings, records, Store(settings.store_root))


@pytest.fixture
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("r") / "s"
    process = subprocess.Popen(
        [find_redis(), *redis_flags(), "--port", "0", *socket_flags(path)], stdout=subprocess.DEVNULL
    )
    wait_for(path.exists, 10)
    yield path
    process.kill()
    process.wait()


@pytest.fixture
def here(local: Settings, own_records: Records) -> Site:
    return Site(local, own_records, Store(local.store_root))


@pytest.fixture
def train(here: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Job]:
    """Submit a job whose child is a small program."""

    def start(does: str, **limits: float) -> Job:
        child_that(monkeypatch, tmp_path, does)
        put_tiny(here.records)
        return here.records.jobs.create(new(limits=Limits(**limits)))

    return start


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that the operator opened, with a table."""
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "table.csv").write_bytes(TABLE)
    return folder


@pytest.fixture
def open_settings(settings: Settings, web: Web, root: Path) -> Settings:
    return settings.model_copy(update={"data_roots": str(root), "data_hosts": web.place})


@pytest.fixture
def open_site(open_settings: Settings, records: Records) -> Site:
    return Site(open_settings, records, Store(open_settings.store_root))


@pytest.fixture
def submit(open_site: Site) -> Submit:
    """Submit the tiny job with its data at this URI."""

    def make(uri: str) -> Job:
        body = {**SPEC, "data": {**SPEC["data"], "uri": uri}}
        allowed = open_site.settings.allowed
        return open_site.records.jobs.create(new_training_job(body, open_site.records, allowed))

    return make


@pytest.fixture
def no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer a data set's POST at once, as nobody reads it meanwhile."""
    monkeypatch.setattr("service.routes.datasets.INGEST_WAIT_S", 0.0)
