"""A cancel that races success: whoever wins, the job, its row and its folder agree."""

from __future__ import annotations

import random
import signal
from http import HTTPStatus
from typing import Any

import pytest

from serving.store import Store
from tests.faults.journal import Line
from tests.faults.scene import Scene

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
CNN = 1


def versions_of(scene: Scene, job: str) -> tuple[list[str], list[str]]:
    """The published versions that the records and the store hold of this job."""
    recorded = scene.recorded()
    rows = [
        f"{row['model']}/{row['number']}"
        for row in recorded.versions
        if row["job_id"] == job and row["status"] == "published"
    ]
    store = Store(scene.fleet.settings.store_root)
    folders = [
        f"{model}/{number}"
        for model in sorted({row["name"] for row in recorded.jobs})
        for number in store.versions(model)
        if store.manifest(model, number).job_id == job
    ]
    return rows, folders


def agreed(scene: Scene, job: str) -> dict[str, Any]:
    """The job once it is over, and with all that must agree with how it ended."""
    body = scene.ended(job)
    assert body["status"] in ("cancelled", "succeeded"), body["error"]
    wanted = 1 if body["status"] == "succeeded" else 0
    scene.until(lambda: [len(each) for each in versions_of(scene, job)] == [wanted, wanted], within_s=20)
    scene.judge(job)
    return body


@pytest.mark.parametrize("point", ["exporting", "converting", "proving", "sealing"])
def test_a_job_cancelled_while_its_version_is_made_has_none(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit(CNN, epochs=1)
    scene.held(point)
    assert scene.cancel(job) == HTTPStatus.OK
    scene.release(point)
    assert agreed(scene, job)["status"] == "cancelled"


@pytest.mark.parametrize("point", ["reserved", "renamed"])
def test_a_job_cancelled_while_publishing_agrees_with_the_store(scene: Scene, point: str) -> None:
    scene.arm(point)
    job = scene.submit(epochs=1)
    scene.held(point)
    answer = scene.cancel(job)
    assert answer == HTTPStatus.OK
    scene.release(point)
    body = agreed(scene, job)
    assert body["attempt"] == 1
    if point == "renamed":
        assert body["status"] == "succeeded"  # the version is there: the cancel came too late


def test_a_job_cancelled_between_rename_and_row_whose_worker_dies_leaves_no_version(scene: Scene) -> None:
    scene.arm("renamed")
    job = scene.submit(epochs=1)
    held: Line = scene.held("renamed")
    assert scene.cancel(job) == HTTPStatus.OK
    scene.strike(signal.SIGKILL, held.pid)
    scene.release("renamed")
    assert agreed(scene, job)["status"] == "cancelled"


def test_jobs_cancelled_at_any_moment_of_their_end_agree_with_the_store(scene: Scene) -> None:
    dice = random.Random(7)
    endings = set()
    for spread_s in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0):
        job = scene.submit(epochs=1)
        scene.until(lambda job=job: any(line.phase == "exporting" for line in scene.lines(job)))
        scene.rest(spread_s + dice.uniform(0, 0.3))
        answer = scene.cancel(job)
        body = agreed(scene, job)
        endings.add(body["status"])
        assert answer == HTTPStatus.OK or body["status"] == "succeeded"
    assert "cancelled" in endings
