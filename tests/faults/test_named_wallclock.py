"""The wall clock stepped by an hour under running processes: leases, waits and limits go on as they were."""

from __future__ import annotations

import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.fleet import LEASE_S
from tests.faults.scene import Scene
from tests.faults.wallclock import WallClock, clock_variables

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]
HOUR_S = 3600
SAY = """
import sys, time
from datetime import datetime
for _ in sys.stdin:
    print(time.time(), datetime.now().timestamp(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME),
          flush=True)
"""


def test_the_step_is_seen_by_a_running_python_and_by_no_other_clock(
    wallclock_library: Path, tmp_path: Path
) -> None:
    file = tmp_path / "wallclock"
    file.write_bytes(struct.pack("<q", 0))
    variables = clock_variables(wallclock_library, file) | {"LD_PRELOAD": str(wallclock_library)}
    with subprocess.Popen(
        [sys.executable, "-S", "-c", SAY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=variables,
    ) as python:
        assert python.stdin is not None
        assert python.stdout is not None

        def clocks() -> list[float]:
            python.stdin.write("\n")
            return [float(word) for word in python.stdout.readline().split()]

        before = clocks()
        file.write_bytes(struct.pack("<q", HOUR_S))
        after = clocks()
        python.stdin.close()
    passed = [round(b - a) for a, b in zip(before, after, strict=True)]
    assert passed[:2] == pytest.approx([HOUR_S, HOUR_S], abs=60)
    assert passed[2:] == pytest.approx([0, 0], abs=60)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("names", [("api", "api2"), ("api", "api2", "worker", "worker2")])
def test_a_step_costs_no_job_its_lease_its_place_or_its_time(
    scene: Scene, clock: WallClock, names: tuple[str, ...], step_s: int
) -> None:
    clock.take(*names)
    running = scene.occupy(limits={"max_runtime_s": 600})
    waiting = scene.submit(epochs=1, limits={"max_pending_s": 600})
    assert scene.job(waiting)["status"] == "queued"
    clock.step(step_s, *names)
    try:
        new = scene.submit(epochs=1, limits={"max_pending_s": 600})
        # The proof that the API's own clock went wrong under it.
        created_at = datetime.fromisoformat(scene.job(new)["created_at"])
        assert abs((created_at - datetime.now(UTC)).total_seconds() - step_s) < 120
        scene.rest(LEASE_S)
        scene.resume(running)
        for job in (*running, waiting, new):
            scene.succeeded(job)
    finally:
        clock.step(0, *names)
    scene.judge(*running, waiting, new)
