"""What the tests of the service share: settings, a stand-in child, rows and staged versions."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.context import Context
from service.jobs import Job, Kind, NewJob, SlotKind, Status
from service.kind import Site
from service.queue import Bell, celery_app
from service.records import Claim, Dataset, Records
from service.settings import Settings
from service.slots import FETCH, SHORT, Slot
from service.standby import Standby
from service.supervisor import Supervisor
from service.worker import Worker
from serving.manifest import Manifest
from serving.store import Store

CPU = Slot("cpu", SlotKind.DEVICE)
NOBODY = "redis+socket:///nowhere/redis.sock"

DIGEST = "sha256:" + "a" * 64
COLUMNS = [{"name": name, "dtype": "float64", "shape": []} for name in ("a", "b", "y")]
FOUND = {"kind": "csv", "schema": {"columns": COLUMNS}, "statistics": {}}

SPEC: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "sequential", "layers": [{"class_name": "Dense", "config": {"units": 1}}]},
    "data": {"kind": "csv", "uri": "dataset://tiny", "features": ["a", "b"], "label": "y"},
    "compile": {"optimizer": "adam", "loss": "mse"},
}

Talk = Callable[[httpx.AsyncClient, Context], Awaitable[Any]]


def ask(settings: Settings, talk: Talk) -> Any:
    """Run an API in this process and let `talk` speak with it."""

    async def main() -> Any:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            token = settings.token_path.read_text().strip()
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://api", headers=headers
            ) as client:
                return await talk(client, app.state.context)

    return asyncio.run(main())


def put_tiny(records: Records, *, ready: bool = True, ingest: NewJob | None = None) -> None:
    """The data set `tiny`: read, or waiting for `ingest` to read it."""
    records.datasets.create(
        dataset_id="ds_tiny",
        name="tiny",
        digest=DIGEST,
        size_bytes=1,
        filename="t.csv",
        ingest=new(Kind.INGEST) if ready else ingest,
    )
    if ready:
        assert records.datasets.ingested(claim(records, slot=SlotKind.SHORT), FOUND)


def fail_ingest(records: Records) -> None:
    """Let the ingest that waits end as failed."""
    held = claim(records, slot=SlotKind.SHORT)
    assert records.claims.finish(held, Status.FAILED, error={"code": "invalid_data", "detail": "broken"})


def new(kind: Kind = Kind.TRAIN, **values: Any) -> NewJob:
    name = "tiny" if kind is Kind.TRAIN else None
    spec = {"name": "tiny"} if kind is Kind.TRAIN else {"filename": "t.csv"}
    return NewJob(
        kind=kind,
        spec=spec,
        name=name,
        dataset_id="ds_tiny",
        dataset_digest=DIGEST,
        seed=1,
        **values,
    )


def claim(records: Records, *, slot: SlotKind = SlotKind.DEVICE, lost: bool = False) -> Claim:
    """Claim the next job; a `lost` claim's lease is over already."""
    found = records.claims.claim_next(slot, "w", -1.0 if lost else 30.0)
    assert found is not None
    return found


def supervise(held: Claim, site: Site, slot: Slot = SHORT) -> None:
    """One attempt, in this thread."""
    Supervisor(held, Standby(slot, warm=False), site).run()


def stage(store: Store, job_id: str, token: int) -> Path:
    staging = store.stage("tiny", job_id, token)
    (staging / "saved_model.pb").write_bytes(b"graph")
    store.seal(staging, Manifest(model="tiny", job_id=job_id))
    return staging


def child_that(monkeypatch: pytest.MonkeyPatch, folder: Path, does: str) -> None:
    """Let supervisors spawn a small program in place of the real child; it can `tell` and has its `order`."""
    program = folder / "child"
    program.write_text(
        f"#!{sys.executable} -S\n"
        "import json, os, signal, sys\n"
        "order = json.load(open(json.loads(sys.stdin.readline())['order']))\n"
        "def tell(n, event, **data):\n"
        "    line = json.dumps({'n': n, 'at': 0.0, 'event': event, 'data': data}) + '\\n'\n"
        "    os.write(int(sys.argv[3]), line.encode())\n"
        "tell(0, 'status', status='running', phase='starting')\n" + does
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@contextlib.contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A whole worker, in this process; its slots and its reconciler do what they do."""
    worker = Worker(settings, Bell(celery_app(settings.effective_broker_url)))
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def found(site: Site, job: Job) -> Job:
    """The job as it stands now."""
    now = site.records.jobs.get(job.id)
    assert now is not None
    return now


def in_thread(supervisor: Supervisor) -> threading.Thread:
    """Run one attempt beside the test."""
    thread = threading.Thread(target=supervisor.run, daemon=True)
    thread.start()
    return thread


Submit = Callable[[str], Job]


def fetch(site: Site) -> None:
    supervise(claim(site.records, slot=SlotKind.FETCH), site, FETCH)


def read(site: Site) -> None:
    supervise(claim(site.records, slot=SlotKind.SHORT), site, SHORT)


def dataset_of(site: Site, job: Job) -> Dataset:
    dataset = site.records.datasets.get(job.dataset_id or "")
    assert dataset is not None
    return dataset
