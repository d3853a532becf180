"""A child, or its converter, killed or frozen in each of its phases; a disk without room; too much memory."""

from __future__ import annotations

import signal

import pytest

from tests.faults.scene import Scene, reasons, spec

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
MLP, CNN = 0, 1
STRIKES = [signal.SIGKILL, signal.SIGSTOP]
TOLD = {signal.SIGKILL: "its process died", signal.SIGSTOP: "its process was frozen"}
FURTHER = "its process died, after a new checkpoint"


@pytest.mark.parametrize("strike", STRIKES)
def test_a_child_struck_in_the_midst_of_an_epoch_goes_on_from_its_checkpoint(
    scene: Scene, strike: signal.Signals
) -> None:
    job = scene.submit()
    scene.strike(strike, scene.training(job, steps=30).child)
    body = scene.succeeded(job, attempts=[2])
    # Step 20 had a checkpoint.
    assert reasons(body) == [FURTHER if strike == signal.SIGKILL else TOLD[strike]]
    scene.judge(job)


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize(
    ("point", "phase"),
    [
        ("validating", "validating"),
        ("checkpointing", "checkpointing"),
        ("disk", "checkpointing"),
        ("exporting", "exporting"),
        ("sealing", "exporting"),
    ],
)
def test_a_child_struck_at_a_point_costs_one_attempt(
    scene: Scene, point: str, phase: str, strike: signal.Signals
) -> None:
    scene.arm(point)
    job = scene.submit()
    held = scene.held(point)
    assert (held.job, held.phase) == (job, phase)
    scene.strike(strike, held.pid)
    scene.release(point)
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body)[0].startswith(TOLD[strike])
    scene.judge(job)


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("point", ["converting", "proving"])
def test_a_child_struck_with_its_converter_costs_one_attempt(
    scene: Scene, point: str, strike: signal.Signals
) -> None:
    scene.arm(point)
    job = scene.submit(CNN)
    converter = scene.held(point)
    seen = scene.sighting(converter)
    assert seen.job == job
    # The converter first: it goes by itself when its child does.
    scene.strike(strike, converter.pid, seen.child)
    scene.release(point)
    body = scene.succeeded(job, attempts=[2])
    assert reasons(body)[0].startswith(TOLD[strike])
    assert {"saved_model", "tflite"} <= {each["name"] for each in body["result"]["artifacts"]}
    scene.judge(job)


def test_a_child_killed_each_time_it_begins_poisons_its_job(scene: Scene) -> None:
    scene.arm("begin")
    job = scene.submit()
    for attempt in (1, 2, 3):
        held = scene.held("begin")
        assert (held.job, held.attempt) == (job, attempt)
        scene.release("begin")
        if attempt < 3:
            scene.arm("begin")
        scene.strike(signal.SIGKILL, held.pid)
    body = scene.ended(job)
    assert (body["status"], body["error"]["code"], body["attempt"]) == ("failed", "poisoned", 3)
    assert reasons(body) == ["its process died", "its process died"]
    scene.judge(job)


@pytest.mark.parametrize("point", ["checkpointing", "disk"])
def test_a_disk_that_fills_up_while_checkpointing_is_waited_out(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit()
    held = scene.held(point)
    assert (held.job, held.phase) == (job, "checkpointing")
    # At "disk" the arrays are written; then there is no room for what follows.
    scene.limit_files(16 * 1024 if point == "checkpointing" else 64, held.pid)
    scene.release(point)
    body = scene.succeeded(job, attempts=[2])
    assert [reason.partition(":")[0] for reason in reasons(body)] == ["disk_full"]
    assert waited_s(scene, job) >= 5
    scene.judge(job)


@pytest.mark.parametrize("point", ["exporting", "sealing"])
def test_a_disk_that_is_full_while_a_version_is_made_is_waited_out(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit()
    held = scene.held(point)
    assert held.job == job
    scene.limit_files(1024, held.pid)
    scene.release(point)
    body = scene.succeeded(job, attempts=[2])
    assert [reason.partition(":")[0] for reason in reasons(body)] == ["disk_full"]
    assert waited_s(scene, job) >= 5
    scene.judge(job)


@pytest.mark.parametrize("point", ["converting", "proving"])
def test_a_disk_that_is_full_for_a_converter_is_waited_out(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit(CNN)
    converter = scene.held(point)
    assert scene.sighting(converter).job == job
    scene.limit_files(256, converter.pid)
    scene.release(point)
    body = scene.succeeded(job, attempts=[2])
    assert [reason.partition(":")[0] for reason in reasons(body)] == ["disk_full"]
    scene.judge(job)


def test_a_child_over_its_memory_cap_fails_and_is_not_tried_again(scene: Scene) -> None:
    # TensorFlow alone holds more.
    answer = scene.post(spec(limits={"memory_bytes": 300_000_000}))
    assert answer.status_code == 202
    job = answer.json()["id"]
    body = scene.ended(job)
    assert (body["status"], body["error"]["code"], body["attempt"]) == ("failed", "out_of_memory", 1)
    assert body["error"]["retryable"] is False
    assert body["resources"]["peak_memory_bytes"] > 300_000_000
    assert reasons(body) == []
    scene.judge(job)


def waited_s(scene: Scene, job: str) -> float:
    """From the last word of the first attempt to the first of the second, on the boot-time clock."""
    lines = scene.lines(job)
    last = max(line.t for line in lines if line.attempt == 1)
    return min(line.t for line in lines if line.attempt == 2) - last
