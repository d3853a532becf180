"""The benchmark of the data pipeline, on rows so few that its figures say nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FIGURES = {"overlap": 5, "csv": 6, "feeding": 8, "larger": 5, "advice": 4}


@pytest.mark.full
@pytest.mark.parametrize("case", FIGURES)
def test_every_case_has_its_figures(case: str) -> None:
    few = ["--rounds", "1", "--rows", "20000", "--headroom", "256"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pipeline", "--only", case, "--json", *few],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr  # a target may be missed
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(figures) == FIGURES[case]
    assert any(figure["target"] is not None for figure in figures)
    assert all(figure["value"] >= 0 for figure in figures)
