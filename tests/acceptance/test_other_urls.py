"""One code path: the same processes with a PostgreSQL and a Redis named by URL, as in docker-compose."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.processes import find_redis
from tests.acceptance.stack import RunningStack, example, wait_for


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis with a password, as docker-compose starts it."""
    socket = tmp_path / "redis.sock"
    command = [
        find_redis(),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--requirepass",
        "secret",
        "--save",
        "",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(socket.exists, within_s=10)
    yield f"redis+socket://:secret@{socket}"
    process.terminate()
    process.wait()


@pytest.mark.full
def test_a_job_goes_the_same_way_on_postgresql(
    postgres_url: str, redis_url: str, data: Path, tmp_path: Path
) -> None:
    urls = {"database_url": postgres_url, "broker_url": redis_url}
    stack = RunningStack(tmp_path / "home", standby="false", **urls)  # for a single job none needs to wait
    try:
        stack.wait_until_up()
        assert "redis" not in stack.endpoints["processes"]
        with stack.client() as client:
            client.upload(data / "breast_cancer.csv", name="breast-cancer")
            job = client.submit(example("breast_cancer", fit={"epochs": 2}, export=[]))
            job = client.wait(job.id, timeout_s=120)
            assert job.status == "succeeded", (job.error, stack.logs())
            assert client.version("breast-cancer", 1, wait_s=30).serving.state == "AVAILABLE"
            events = list(client.events(job.id))
            assert [event.id for event in events] == list(range(1, len(events) + 1))
        assert not (stack.home / "fitserve.db").exists()
        assert "secret" not in stack.logs()
    finally:
        stack.stop()
