import os
import subprocess
import sys
from pathlib import Path

import pytest

SWAPPING = Path(__file__).parent / "swapping.py"


@pytest.mark.full
def test_memory_is_given_back_after_an_unload(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, SWAPPING, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PYTHONPATH": str(SWAPPING.parents[2])},
        ).stdout

    run("save", tmp_path / "saved")
    resident_mb = [int(line) for line in run(tmp_path).split()]

    assert len(resident_mb) == 20
    assert max(resident_mb) <= 1.3 * resident_mb[0], resident_mb
