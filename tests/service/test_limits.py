"""What bounds a job, and what counts against it, with a small program in place of the real child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from service.attendance import Attendance
from service.jobs import Job, Kind, Limits, SlotKind, Status
from service.kind import Site
from service.protocol import boot_clock
from service.records import Records
from service.records.database import Instant
from service.slots import Slot
from service.standby import Standby
from service.supervisor import Supervisor
from tests.acceptance.stack import wait_for
from tests.service.workbench import child_that, claim, new, put_tiny, supervise

CPU = Slot("cpu", SlotKind.DEVICE)
FAILS = (
    "tell(1, 'outcome', ending='failed', peak_memory_bytes=1,\n"
    "     error={'code': 'disk_full', 'detail': 'no room', 'retryable': True})\n"
)
GETS_FURTHER = (
    "folder = order['work_folder'] + f'/checkpoints/epoch-{order[\"attempt\"]:06d}-step-000000000'\n"
    "os.makedirs(folder)\n"
)


@pytest.fixture
def train(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Submit a job with these limits, and let one attempt of it run after the other."""

    def start(does: str, **limits: float) -> Job:
        child_that(monkeypatch, tmp_path, does)
        put_tiny(site.records)
        return site.records.jobs.create(new(limits=Limits(**limits)))

    return start


def attempt(site: Site, job: Job) -> Job:
    supervise(claim(site.records), site, CPU)
    found = site.records.jobs.get(job.id)
    assert found is not None
    return found


def test_a_child_over_its_memory_cap_is_killed_and_not_tried_again(site: Site, train) -> None:
    job = train("held = bytearray(b'x') * 200_000_000\nsignal.pause()\n", memory_bytes=100_000_000)
    ended = attempt(site, job)
    assert ended.status is Status.FAILED
    assert ended.error["code"] == "out_of_memory"
    assert "limits.memory_bytes is 100000000" in ended.error["detail"]
    assert ended.resources["peak_memory_bytes"] > 100_000_000


def test_the_memory_of_a_childs_own_children_counts(site: Site, train) -> None:
    inner = "import signal; held = bytearray(b'x') * 200_000_000; signal.pause()"
    does = f"import subprocess\nsubprocess.Popen([{os.sys.executable!r}, '-c', {inner!r}])\nsignal.pause()\n"
    job = train(does, memory_bytes=100_000_000)
    assert attempt(site, job).error["code"] == "out_of_memory"


def test_a_job_that_runs_too_long_is_told_to_stop_and_fails(site: Site, train) -> None:
    does = (
        "for line in sys.stdin:\n"
        "    if 'stop' in json.loads(line):\n"
        "        tell(1, 'outcome', ending='stopped', peak_memory_bytes=1)\n"
        "        break\n"
    )
    ended = attempt(site, train(does, max_runtime_s=0.5))
    assert (ended.status, ended.error["code"]) == (Status.FAILED, "runtime_exceeded")


def test_run_time_adds_up_over_attempts(site: Site, train, monkeypatch: pytest.MonkeyPatch) -> None:
    job = train("", max_runtime_s=30)
    held = claim(site.records)
    passes_until(site.records, monkeypatch, seconds=20)
    site.records.claims.put_back(held, reason="its worker is leaving")
    again = claim(site.records)
    assert again.job.ran_s == pytest.approx(20, abs=2)
    overtime_at = Attendance(again, site, None, on_steady=lambda: None)._overtime_at
    assert overtime_at - boot_clock() == pytest.approx(10, abs=2)
    assert job.id == again.job.id


def passes_until(records: Records, monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Let the clock of leases go ahead."""
    now = records.database.now

    def later(connection) -> Instant:
        instant = now(connection)
        return Instant(instant.seconds + seconds, instant.boot)

    monkeypatch.setattr(records.database, "now", later)


def test_a_job_that_waited_too_long_fails_with_its_own_code(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = records.jobs.create(new(limits=Limits(max_pending_s=5)))
    patient = records.jobs.create(new())
    passes_until(records, monkeypatch, seconds=4)  # though nobody may have looked
    records.recovery.recover()
    assert records.jobs.get(job.id).status is Status.QUEUED
    passes_until(records, monkeypatch, seconds=6)
    records.recovery.recover()
    ended = records.jobs.get(job.id)
    assert (ended.status, ended.error["code"]) == (Status.FAILED, "pending_exceeded")
    assert records.jobs.get(patient.id).status is Status.QUEUED


def test_a_job_that_has_run_is_not_ended_for_waiting_again(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = records.jobs.create(new(limits=Limits(max_pending_s=5)))
    records.claims.put_back(claim(records), reason="its worker is leaving")
    passes_until(records, monkeypatch, seconds=600)
    records.recovery.recover()
    assert records.jobs.get(job.id).status is Status.QUEUED


def test_a_child_that_stands_still_for_a_lease_is_killed_without_blame(
    site: Site, train, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = train("os.kill(os.getpid(), signal.SIGSTOP)\n", max_attempts=1)
    quick = Site(site.settings.model_copy(update={"lease_s": 1.5}), site.records, site.store)
    held = site.records.claims.claim_next(SlotKind.DEVICE, "w", 1.5)
    supervise(held, quick, CPU)
    after = site.records.jobs.get(job.id)
    assert (after.status, after.deaths) == (Status.QUEUED, 0)
    assert site.records.jobs.transitions(job.id)[-1].reason == "its process was frozen"


def test_a_frozen_child_dies_with_its_worker(tmp_path: Path) -> None:
    """It reads no end of stdin and no deadline; the kernel kills it all the same."""
    program = (
        "import os, signal\n"
        "from service.child import Child\n"
        "from service.slots import SHORT\n"
        "child = Child.spawn(SHORT)\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    worker = psutil.Popen([os.sys.executable, "-c", program], stdout=-1)
    try:
        child = psutil.Process(int(worker.stdout.readline()))
        wait_for(lambda: tied(child))
        child.suspend()
    finally:
        worker.kill()
        worker.communicate()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def tied(child: psutil.Process) -> bool:
    """Whether it has come as far as to listen for its order, after it tied itself to its parent."""
    return child.num_threads() > 1


def test_deaths_are_counted_only_where_nothing_new_was_checkpointed(site: Site, train) -> None:
    job = train(GETS_FURTHER + "os.kill(os.getpid(), signal.SIGKILL)\n", max_attempts=1)
    for _ in range(3):
        after = attempt(site, job)
        assert (after.status, after.deaths) == (Status.QUEUED, 0)
    assert after.attempt == 3


def test_a_job_whose_child_dies_by_itself_three_times_is_poisoned(site: Site, train) -> None:
    job = train("sys.stderr.write('the last words')\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    seen = [attempt(site, job) for _ in range(3)]
    assert [(each.status, each.deaths) for each in seen[:2]] == [(Status.QUEUED, 1), (Status.QUEUED, 2)]
    assert (seen[2].status, seen[2].error["code"]) == (Status.FAILED, "poisoned")
    assert "the last words" in seen[2].error["detail"]


def test_a_failure_that_may_pass_waits_out_a_back_off(
    site: Site, train, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = train(FAILS)
    assert attempt(site, job).status is Status.QUEUED
    assert site.records.claims.claim_next(SlotKind.DEVICE, "w", 30) is None
    passes_until(site.records, monkeypatch, seconds=5.5)
    assert attempt(site, job).deaths == 2
    passes_until(site.records, monkeypatch, seconds=5.5)  # the second wait is twice as long
    assert site.records.claims.claim_next(SlotKind.DEVICE, "w", 30) is None
    passes_until(site.records, monkeypatch, seconds=5)
    ended = attempt(site, job)
    assert (ended.status, ended.error["code"]) == (Status.FAILED, "disk_full")


def test_a_failure_that_may_pass_after_a_new_checkpoint_is_no_death(site: Site, train) -> None:
    job = train(GETS_FURTHER + FAILS, max_attempts=1)
    after = attempt(site, job)
    assert (after.status, after.deaths) == (Status.QUEUED, 0)


@pytest.mark.parametrize("code", ["invalid_data", "nan_loss", "out_of_memory"])
def test_what_can_not_improve_is_not_tried_again(site: Site, train, code: str) -> None:
    job = train(FAILS.replace("disk_full", code).replace("True", "False"))
    ended = attempt(site, job)
    assert (ended.status, ended.error["code"]) == (Status.FAILED, code)


def test_a_worker_that_dies_or_leaves_costs_no_attempt(records: Records) -> None:
    job = records.jobs.create(new(limits=Limits(max_attempts=1)))
    for _ in range(5):
        claim(records, lost=True)
        records.recovery.recover()
        records.claims.put_back(claim(records), reason="its worker is leaving")
    after = records.jobs.get(job.id)
    assert (after.status, after.deaths, after.attempt) == (Status.QUEUED, 0, 10)


def test_a_cancelled_child_that_does_not_listen_is_killed_within_a_second_or_so(site: Site, train) -> None:
    """The grace of a stop is for checkpoints; a cancelled job needs none."""
    job = train("signal.pause()\n")
    patient = Site(site.settings.model_copy(update={"grace_s": 30.0}), site.records, site.store)
    supervisor = Supervisor(claim(site.records), Standby(CPU, warm=False), patient)
    thread = threading.Thread(target=supervisor.run, daemon=True)
    thread.start()
    site.records.jobs.cancel(job.id)
    supervisor.nudge()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert site.records.jobs.get(job.id).status is Status.CANCELLED


def test_a_waiting_child_is_used_once_and_a_dead_one_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child_that(monkeypatch, tmp_path, "")
    standby = Standby(CPU)
    standby.prepare()
    standby.prepare()
    first = standby.take()
    second = standby.take()
    assert first.pid != second.pid
    standby.prepare()
    third = standby._child
    os.kill(third.pid, signal.SIGKILL)
    wait_for(lambda: not third.alive)
    standby.prepare()
    assert standby._child.pid != third.pid
    for child in (first, second):
        child.discard()
    standby.close()


def test_a_short_child_that_crashed_before_its_order_leaves_its_words_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "child"
    program.write_text("#!/bin/sh\necho no TensorFlow here >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST))
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    log = site.settings.jobs_folder / job.id / "attempt-1" / "log"
    assert log.read_text() == "no TensorFlow here\n"
