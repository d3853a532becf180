"""A few real jobs under a few real kills, each promise looked at; `make faults` does the same at length."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.fleet import ROOT
from tests.faults.mayhem import PHASES

pytestmark = pytest.mark.timeout(420)  # it takes a minute and a half where nothing else runs


@pytest.fixture(scope="module")
def outcome():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults",
            "--jobs",
            "2",
            "--kills",
            "6",
            "--seed",
            "3",
            "--deadline",
            "360",
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout) | {"exit": done.returncode, "told": done.stderr}


def test_every_promise_holds_under_kills_and_freezes(outcome) -> None:
    assert outcome["evidence"] == {}, outcome["told"]
    assert outcome["good"] is True
    assert outcome["exit"] == 0


def test_no_job_is_lost_and_none_is_published_twice(outcome) -> None:
    assert outcome["jobs"] >= 2
    assert (outcome["lost"], outcome["published_twice"]) == (0, 0)
    assert (outcome["event_gaps"], outcome["overlaps"], outcome["differing_weights"]) == (0, 0, 0)


def test_the_kills_hit_every_phase_of_running_attempts(outcome) -> None:
    assert outcome["kills"] >= 6
    assert all(outcome["hits_by_phase"].get(phase, 0) >= 1 for phase in PHASES)


def test_jobs_took_more_attempts_than_one_for_each(outcome) -> None:
    assert outcome["attempts"] > outcome["jobs"]
