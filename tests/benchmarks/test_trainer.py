"""The benchmark of training runs, on rows so few that its figures say nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.full
def test_every_case_has_both_its_sides_and_their_ratio() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trainer", "--rounds", "1", "--rows", "3000", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode in (0, 1), done.stderr  # a target may be missed
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    ours, theirs, ratios = figures[0::3], figures[1::3], figures[2::3]
    assert len(ratios) == 3
    for job, script, ratio in zip(ours, theirs, ratios, strict=True):
        assert job["value"] > 0
        assert script["value"] > 0
        assert ratio["value"] == pytest.approx(job["value"] / script["value"])
        assert ratio["target"] is not None
