"""The benchmark of exports runs, and measures both its sides and every artifact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.proven_exports import NAMES

ROOT = Path(__file__).parents[2]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_every_artifact_has_its_figures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.exporter", "--rounds", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    figures = {each["name"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert figures["proven / bare"]["target"] == 1.5
    for name in NAMES:
        assert figures[f"size of {name} / tflite"]["value"] > 0
        assert figures[f"1 rows in {name} / model.predict"]["value"] > 0
        assert figures[f"64 rows in {name} / model.predict"]["value"] > 0
