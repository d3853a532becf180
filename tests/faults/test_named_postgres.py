"""PostgreSQL restarted, away and frozen under a running job."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.fleet import signal_quietly
from tests.faults.scene import Scene, family, spec

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
DATABASE = "postgresql"
AWAY_S = 10.0


def test_postgres_restarted_at_once_costs_a_training_job_nothing(scene: Scene) -> None:
    job = scene.submit(epochs=3)
    scene.training(job, steps=20)
    postgres = scene.fleet.ships["postgres"]
    scene.strike(signal.SIGQUIT, postgres.pid)  # its immediate shutdown: no goodbye, then recovery
    scene.until(lambda: not postgres.alive)
    scene.fleet.rest(postgres, 0)
    scene.succeeded(job)
    scene.until(scene.fleet.ready)
    scene.judge(job)


def test_a_submission_while_postgres_is_away_is_refused_and_then_taken_once(scene: Scene) -> None:
    job = scene.submit(epochs=3)
    scene.training(job, steps=20)
    postgres = scene.fleet.ships["postgres"]
    scene.strike(signal.SIGQUIT, postgres.pid)
    scene.until(lambda: not postgres.alive)
    scene.fleet.rest(postgres, AWAY_S)
    asked = spec(epochs=1)
    answer = scene.post(asked, key="away", timeout_s=AWAY_S)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    scene.rest(AWAY_S)
    again = submitted_at_last(scene, asked, "away")
    # It was away for longer than a lease: the attempt had to end, and another went on.
    scene.succeeded(job, attempts=[1, 2])
    scene.succeeded(again)
    scene.judge(job, again)


def test_a_submission_while_postgres_is_frozen_is_taken_once(scene: Scene) -> None:
    job = scene.submit(epochs=3)
    scene.training(job, steps=20)
    frozen = family(scene.fleet.ships["postgres"].pid)
    asked = spec(epochs=1)
    scene.strike(signal.SIGSTOP, *frozen)
    try:
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(scene.post, asked, key="frozen", timeout_s=AWAY_S / 2)
            scene.rest(AWAY_S)
            try:
                assert early.result().status_code == 503
            except httpx.TransportError as error:
                assert isinstance(error, httpx.TimeoutException)  # noqa: PT017 - or an answer
    finally:
        for pid in frozen:
            signal_quietly(pid, signal.SIGCONT)
    again = submitted_at_last(scene, asked, "frozen")
    scene.succeeded(job, attempts=[1, 2])
    scene.succeeded(again)
    scene.judge(job, again)


def submitted_at_last(scene: Scene, asked: dict, key: str) -> str:
    """Repeat the submission with its key until it is taken; the job, of which there is one."""
    before = set(scene.rows_of(asked["name"])) - scene.known

    def taken() -> str | None:
        try:
            answer = scene.post(asked, key=key)
        except httpx.TransportError:
            return None
        assert answer.status_code in (202, 503), answer.text
        return str(answer.json()["id"]) if answer.status_code == 202 else None

    job = scene.until(taken, every_s=0.2)
    assert set(scene.rows_of(asked["name"])) - scene.known <= before | {job}
    assert before <= {job}
    return scene.accepted(job, epochs=1)
