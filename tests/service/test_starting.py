"""Hosts that can start no process, or lose it before it has read its order: no job is to blame."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from service.child import Child
from service.jobs import Status
from service.protocol import boot_clock
from service.queue import Bell, celery_app
from service.slots import SHORT
from service.standby import Standby
from service.supervisor import Supervisor
from service.worker import Worker
from tests.acceptance.stack import wait_for
from tests.service.workbench import (
    CPU,
    claim,
    found,
    new,
    supervise,
    working,
)

DONE_BADLY = (
    "tell(9, 'outcome', ending='failed', peak_memory_bytes=1,"
    " error={'code': 'nan_loss', 'detail': 'x', 'retryable': False})\n"
)
TOO_MANY = OSError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_next_child_that_can_not_be_started_does_not_end_the_running_one(here, train, monkeypatch) -> None:
    """EAGAIN for the standby, spawned after the first step, is no fault of the job that runs."""
    job = train("tell(1, 'progress', epoch=1, fraction=0.5)\n" + DONE_BADLY, max_attempts=1)
    standby = Standby(CPU, warm=True)
    standby._child = Child.spawn(CPU)
    monkeypatch.setattr(Child, "spawn", staticmethod(lambda _slot: (_ for _ in ()).throw(TOO_MANY)))
    Supervisor(claim(here.records), standby, here).run()
    assert found(here, job).error["code"] == "nan_loss", found(here, job).error


def test_a_host_that_can_start_no_process_is_no_death_of_the_job(here, train, monkeypatch) -> None:
    job = train("")

    def spawn(slot):
        raise TOO_MANY

    monkeypatch.setattr(Child, "spawn", staticmethod(spawn))
    supervise(claim(here.records), here, CPU)
    now = found(here, job)
    assert (now.status, now.deaths) == (Status.QUEUED, 0)


def test_a_host_that_can_start_no_thread_is_no_death_of_the_job(here, train, monkeypatch) -> None:
    """RLIMIT_NPROC and pids.max count threads too; Python tells that by a RuntimeError."""
    job = train("signal.pause()\n")
    start = threading.Thread.start

    def refuse(self):
        if self.name.startswith("events-"):
            raise RuntimeError("can't start new thread")
        start(self)

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        supervise(claim(here.records), here, CPU)
    now = found(here, job)
    assert (now.status, now.deaths) == (Status.QUEUED, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_host_that_can_start_no_process_does_not_go_through_the_whole_line(
    local, own_records, train, monkeypatch
) -> None:
    """Each turn would claim the next job and put it back, with no rest between."""
    train("")
    jobs = [own_records.jobs.create(new()) for _ in range(30)]

    def spawn(_slot):
        raise TOO_MANY

    monkeypatch.setattr(Child, "spawn", staticmethod(spawn))
    patient = local.model_copy(update={"standby": True, "reconcile_s": 5.0})
    worker = Worker(patient, Bell(celery_app(local.effective_broker_url)))
    worker.start()
    until = boot_clock() + 2.0
    while boot_clock() < until:
        time.sleep(0.1)
    worker.stop()
    tried = [job.id for job in jobs if own_records.jobs.get(job.id).attempt]
    assert len(tried) <= 1, f"{len(tried)} of 30 jobs claimed and put back within 2 s"


def broken(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let supervisors spawn what a broken installation would be; the file grows by a line each time."""
    program = folder / "broken"
    program.write_text(
        f"#!/bin/sh\necho x >> {folder / 'spawned'}\nread order\necho no libtensorflow >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    return folder / "spawned"


def test_a_child_that_crashes_before_it_reads_its_order_is_no_death_of_the_job(
    here, train, monkeypatch, tmp_path
) -> None:
    """Else one broken host would poison every job."""
    job = train("", max_attempts=1)
    broken(monkeypatch, tmp_path)
    supervise(claim(here.records), here, CPU)
    now = found(here, job)
    assert (now.status, now.deaths) == (Status.QUEUED, 0)
    reason = here.records.jobs.transitions(job.id)[-1].reason
    assert reason == "its process died before it began; its last words: no libtensorflow"


def test_a_slot_whose_children_die_before_they_begin_rests_longer_each_time(
    here, train, monkeypatch, tmp_path
) -> None:
    train("")
    jobs = [here.records.jobs.create(new()) for _ in range(30)]
    spawned = broken(monkeypatch, tmp_path)
    eager = here.settings.model_copy(update={"standby": False, "reconcile_s": 0.05})
    with working(eager):
        time.sleep(2.5)
    assert len(spawned.read_text().splitlines()) <= 4  # at 0, 0, 1 and 3 s
    assert sum(here.records.jobs.get(job.id).attempt for job in jobs) <= 4


def test_a_waiting_child_that_dies_each_time_is_not_started_again_at_once(monkeypatch, tmp_path) -> None:
    program = tmp_path / "child"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path / 'spawned'}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    standby = Standby(CPU)
    until = boot_clock() + 2.5
    while boot_clock() < until:
        standby.prepare()
        time.sleep(0.05)
    standby.close()
    assert len((tmp_path / "spawned").read_text().splitlines()) <= 4


def test_a_child_that_can_not_read_its_order_ends(tmp_path: Path) -> None:
    """Else its supervisor beats for it for ever, and the job never ends."""
    child = Child.spawn(SHORT)
    try:
        child.say(order=str(tmp_path / "nowhere" / "order.json"))
        wait_for(lambda: not child.alive, 30)
    finally:
        child.discard()
