"""The bell: every worker hears it, and nobody waits for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import redis

from service.jobs import Kind, Status
from service.queue import Bell, celery_app
from service.records import Records
from service.settings import Settings
from tests.acceptance.stack import wait_for
from tests.service.workbench import new, put_tiny


def test_a_bell_wakes_a_worker_at_once(
    local: Settings, own_records: Records, redis_socket: Path, tmp_path: Path
) -> None:
    url = f"redis+socket://{redis_socket}"
    environment = {
        **os.environ,
        "FITSERVE_HOME": str(local.home),
        "FITSERVE_BROKER_URL": url,
        "FITSERVE_RECONCILE_S": "600",  # what wakes it is the bell alone
    }
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "service.worker"], env=environment, stderr=log)
    try:
        with redis.Redis(unix_socket_path=str(redis_socket)) as broker:
            wait_for(lambda: broker.pubsub_numpat() >= 2, 20)
        put_tiny(own_records, ready=False)
        job = own_records.jobs.create(new(Kind.INGEST))
        assert Bell(celery_app(url)).ring(job.id)
        wait_for(lambda: own_records.jobs.get(job.id).status is not Status.QUEUED, 5)
    finally:
        worker.terminate()
        worker.wait(20)


def test_a_ring_leaves_nothing_behind_in_redis(redis_socket: Path) -> None:
    assert Bell(celery_app(f"redis+socket://{redis_socket}")).ring("job_1")
    with redis.Redis(unix_socket_path=str(redis_socket)) as broker:
        assert [key for key in broker.scan_iter() if broker.type(key) == b"list"] == []


def test_a_broker_that_takes_connections_but_says_nothing_does_not_hold_up_a_ring() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bell = Bell(celery_app(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        rung: list[bool] = []
        thread = threading.Thread(target=lambda: rung.append(bell.ring("job_1")), daemon=True)
        thread.start()
        thread.join(timeout=5)
    assert rung == [False]
