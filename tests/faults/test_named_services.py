"""What is around the jobs, killed or frozen: workers, the API, Redis, the model server."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.queue import Bell, celery_app
from tests.faults.fleet import LEASE_S
from tests.faults.scene import Scene, reasons, spec

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
SILENT = "its worker stopped answering"


def test_a_worker_frozen_past_its_lease_is_fenced_when_it_thaws(scene: Scene) -> None:
    job = scene.submit(epochs=2)
    seen = scene.training(job, steps=25)
    scene.strike(signal.SIGSTOP, seen.worker)
    try:
        scene.until(lambda: len(scene.begun(job)) == 2, within_s=LEASE_S + 60)
    finally:
        scene.strike(signal.SIGCONT, seen.worker)
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body) == [SILENT]
    assert scene.begun(job) == [1, 2]
    scene.judge(job)


@pytest.mark.parametrize("point", ["reserved", "renamed"])
def test_a_worker_frozen_past_its_lease_while_publishing_publishes_once(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit(epochs=1)
    held = scene.held(point)
    assert held.job == job
    scene.strike(signal.SIGSTOP, held.pid)
    try:
        body = scene.succeeded(job, attempts=[2])
    finally:
        scene.release(point)
        scene.strike(signal.SIGCONT, held.pid)
    assert reasons(body) == [SILENT]
    # The thawed worker finds the job taken; what it does then must change nothing.
    scene.until(lambda: any(line.what == "leave" and line.attempt == 1 for line in scene.lines(job)))
    assert scene.job(job)["result"] == body["result"]
    scene.judge(job)


def test_an_api_killed_between_commit_and_bell_has_taken_the_job(scene: Scene) -> None:
    asked = spec(epochs=1)
    scene.arm("bell")
    with ThreadPoolExecutor(1) as pool:
        unanswered = pool.submit(scene.post, asked, key="no-bell", timeout_s=60)
        held = scene.held("bell")
        assert held.pid == scene.fleet.ships["api"].pid
        scene.strike(signal.SIGKILL, held.pid)
        scene.release("bell")
        with pytest.raises(httpx.TransportError):
            unanswered.result()
    (job,) = set(scene.rows_of(asked["name"])) - scene.known
    scene.until(scene.fleet.ready)
    again = scene.post(asked, key="no-bell")
    assert (again.status_code, again.json()["id"]) == (202, job)
    scene.accepted(job, epochs=1)
    scene.succeeded(job)
    scene.judge(job)


def test_redis_wiped_while_a_job_waits_and_others_run_is_not_noticed(scene: Scene) -> None:
    running = scene.occupy()
    waiting = scene.submit(epochs=1)
    assert scene.job(waiting)["status"] == "queued"
    redis = scene.fleet.ships["redis"]
    scene.strike(signal.SIGKILL, redis.pid)
    scene.fleet.rest(redis, 2)
    scene.rest(1)
    scene.resume(running)
    for job in (*running, waiting):
        scene.succeeded(job)
    assert redis.alive
    # Workers hear the new Redis, too.
    scene.until(scene.fleet.ready)
    later = scene.submit(epochs=1)
    scene.succeeded(later)
    scene.judge(*running, waiting, later)


def test_a_job_submitted_while_the_broker_is_down_is_accepted_and_runs(scene: Scene) -> None:
    redis = scene.fleet.ships["redis"]
    scene.strike(signal.SIGKILL, redis.pid)
    scene.fleet.rest(redis, 600)
    try:
        job = scene.submit(epochs=1)
        scene.succeeded(job)
        assert not redis.alive
    finally:
        scene.fleet.rest(redis, 0)
        scene.until(scene.fleet.ready)
    scene.judge(job)


def test_a_bell_rung_five_times_at_once_starts_one_attempt(scene: Scene) -> None:
    bells = [Bell(celery_app(scene.fleet.settings.effective_broker_url)) for _ in range(5)]
    job = scene.submit(epochs=1)
    with ThreadPoolExecutor(5) as pool:
        rung = list(pool.map(lambda bell: bell.ring(job), bells))
    assert rung == [True] * 5
    scene.succeeded(job)
    assert scene.begun(job) == [1]
    scene.judge(job)


def test_the_model_server_serves_again_what_it_served_before_it_was_killed(scene: Scene) -> None:
    job = scene.submit(epochs=1)
    result = scene.succeeded(job)["result"]
    url = f"{scene.fleet.addresses.serving_rest}/v1/models/{result['model']}/versions/{result['version']}"

    def available() -> bool:
        try:
            answer = httpx.get(url, timeout=3, trust_env=False)
        except httpx.TransportError:
            return False
        states = answer.json().get("model_version_status", []) if answer.status_code == 200 else []
        return any(each["state"] == "AVAILABLE" for each in states)

    scene.until(available)
    server = scene.fleet.ships["serving"]
    starts = server.starts
    scene.strike(signal.SIGKILL, server.pid)
    scene.until(lambda: server.starts > starts)
    scene.until(available)
    scene.judge(job)
