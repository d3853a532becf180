"""The faults that matter most, one by one, each at the moment where it would do the most harm."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.faults.fleet import LEASE_S
from tests.faults.scene import Scene, reasons, spec
from tests.faults.wallclock import WallClock

pytestmark = pytest.mark.timeout(180)
HOUR_S = 3600
DIED = "its process died"
SILENT = "its worker stopped answering"


def test_a_child_killed_in_the_midst_of_a_checkpoint_costs_one_attempt(scene: Scene) -> None:
    scene.arm("disk")  # after the first fsync, before the rename
    job = scene.submit(epochs=1)
    held = scene.held("disk")
    assert (held.job, held.phase) == (job, "checkpointing")
    scene.strike(signal.SIGKILL, held.pid)
    scene.release("disk")
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body) == [DIED]
    scene.judge(job)


@pytest.mark.full
def test_a_child_frozen_for_good_in_the_midst_of_an_epoch_is_replaced(scene: Scene) -> None:
    job = scene.submit(epochs=1)
    child = scene.training(job, steps=30).child
    scene.strike(signal.SIGSTOP, child)
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body) == ["its process was frozen"]
    scene.judge(job)


@pytest.mark.full
def test_a_worker_killed_in_training_loses_no_job(scene: Scene) -> None:
    job = scene.submit(epochs=1)
    worker = scene.training(job, steps=30).worker
    scene.strike(signal.SIGKILL, worker)
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body) == [SILENT]
    scene.judge(job)


def test_a_worker_killed_between_rename_and_row_has_published_once(scene: Scene) -> None:
    scene.arm("renamed")
    job = scene.submit(epochs=1)
    held = scene.held("renamed")
    assert held.job == job
    scene.strike(signal.SIGKILL, held.pid)
    scene.release("renamed")
    body = scene.succeeded(job, attempts=[2])
    assert str(body["result"]["version"]) == held_folder(scene, job)
    assert len(scene.begun(job)) == 1  # the second attempt had nothing to train
    scene.judge(job)


def held_folder(scene: Scene, job: str) -> str:
    """The name of the folder that the job's first attempt renamed its version to."""
    return str(next(line for line in scene.lines(job) if line.what == "renamed").facts["folder"])


@pytest.mark.full
def test_a_disk_that_is_full_while_checkpointing_is_waited_out(scene: Scene) -> None:
    scene.arm("checkpointing")
    job = scene.submit(epochs=1)
    held = scene.held("checkpointing")
    scene.limit_files(16 * 1024, held.pid)
    scene.release("checkpointing")
    body = scene.succeeded(job, attempts=[2])
    assert [reason.partition(":")[0] for reason in reasons(body)] == ["disk_full"]
    assert waited_s(body) >= 5
    scene.judge(job)


def waited_s(body: dict) -> float:
    """How long the job waited before its second attempt."""
    at = {
        (each["status"], each["attempt"]): datetime.fromisoformat(each["at"]) for each in body["transitions"]
    }
    return (at["running", 2] - at["queued", 1]).total_seconds()


def test_twenty_posts_of_one_key_at_once_over_two_apis_are_one_job(scene: Scene) -> None:
    asked = spec(epochs=1)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda n: scene.post(asked, key="twenty", api=n % 2, timeout_s=30), range(20))
        )
    assert {answer.status_code for answer in answers} == {202}
    (job,) = {answer.json()["id"] for answer in answers}
    scene.accepted(job, epochs=1)
    scene.succeeded(job)
    assert scene.rows_of(spec(epochs=1)["name"]).count(job) == 1
    scene.judge(job)


@pytest.mark.full
def test_everything_killed_at_once_goes_on_where_it_was(scene: Scene) -> None:
    running = scene.submit(epochs=1)
    scene.training(running, steps=25)
    waiting = scene.submit(epochs=1)
    scene.everything(signal.SIGKILL)  # as soon as it is accepted
    assert reasons(scene.succeeded(running, attempts=[2])) == [SILENT]
    scene.succeeded(waiting, attempts=[1, 2])
    scene.judge(running, waiting)


@pytest.mark.full
@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_the_wall_clock_of_a_worker_may_step_by_an_hour(scene: Scene, clock: WallClock, step_s: int) -> None:
    clock.take("worker")
    running = scene.occupy(epochs=1, limits={"max_runtime_s": 600})
    waiting = scene.submit(epochs=1, limits={"max_pending_s": 600})
    assert scene.job(waiting)["status"] == "queued"
    clock.step(step_s, "worker")
    try:
        scene.rest(LEASE_S)
        scene.resume(running)
        bodies = [scene.succeeded(job) for job in (*running, waiting)]
    finally:
        clock.step(0, "worker")
    # The proof that the worker's own clock went wrong under it: it says when its job ended.
    assert any(abs(seconds_from_start(body) - step_s) < 120 for body in bodies[:2])
    scene.judge(*running, waiting)


def seconds_from_start(body: dict) -> float:
    began, ended = (datetime.fromisoformat(body[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()
