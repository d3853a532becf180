"""What an attempt survives on a host in trouble: no room, no database, a child that is left alone."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import Limits, Status
from service.kind import Site
from service.processes import find_redis
from service.protocol import Order, boot_clock
from service.queue import Bell, Ringer, celery_app
from service.records import Records
from service.records.database import Instant
from service.standby import Standby
from service.supervisor import Supervisor
from service.worker import Worker
from tests.acceptance.stack import wait_for
from tests.service.workbench import (
    CPU,
    claim,
    found,
    in_thread,
    new,
    put_tiny,
    supervise,
    working,
)

DONE_BADLY = (
    "tell(9, 'outcome', ending='failed', peak_memory_bytes=1,"
    " error={'code': 'nan_loss', 'detail': 'x', 'retryable': False})\n"
)
TOO_MANY = OSError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_process_that_never_lets_a_heartbeat_in_is_poisoned_some_day(here, train) -> None:
    """Its worker beat in time: it held the interpreter's lock for longer than its lease, each time."""
    job = train("os.kill(os.getpid(), signal.SIGALRM)\n")
    for _ in range(3):
        supervise(claim(here.records), here, CPU)
    ended = found(here, job)
    assert (ended.status, ended.error["code"]) == (Status.FAILED, "poisoned")


def test_an_attempt_ends_with_its_leader_though_a_process_of_its_own_lives(here, train) -> None:
    """A forked process (multiprocessing, a plugin) holds the events' descriptor open."""
    job = train("if os.fork() == 0:\n    signal.pause()\nos._exit(3)\n", max_attempts=1)
    supervisor = Supervisor(claim(here.records), Standby(CPU, warm=False), here)
    thread = in_thread(supervisor)
    thread.join(timeout=8)
    hangs = thread.is_alive()
    if hangs:
        here.records.jobs.cancel(job.id)
        supervisor.nudge()
        thread.join(timeout=10)
    assert not hangs


def test_an_attempt_that_finds_the_disk_full_leaves_no_descriptor_open(here, train, monkeypatch) -> None:
    train("", max_attempts=100)

    def write(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Order, "write", write)
    monkeypatch.setattr("service.blame.RETRY_FIRST_S", 0.0)
    supervise(claim(here.records), here, CPU)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        supervise(claim(here.records), here, CPU)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_words_that_the_disk_does_not_take_do_not_keep_the_job(here, train, monkeypatch) -> None:
    """Else it lies until its lease is lost, uncounted, without a back-off, again and again."""
    job = train("")

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    with contextlib.suppress(OSError):
        supervise(claim(here.records), here, CPU)
    assert found(here, job).status is Status.QUEUED


def test_a_word_to_a_child_that_was_killed_is_for_nobody(here, train) -> None:
    """A beat may come between the kill at the end of its grace and the end of its events."""
    train("signal.pause()\n")
    child = Child.spawn(CPU)
    child.kill()
    child.say(leave_at=boot_clock() + 60)
    child.discard()


def test_what_a_child_told_before_the_memory_cap_killed_it_is_kept(here, train, monkeypatch) -> None:
    job = train(
        "events = open(order['attempt_folder'] + '/events.jsonl', 'w')\n"
        "events.write(json.dumps({'n': 1, 'at': 0.0, 'event': 'log', 'data': {'message': 'told'}}) + '\\n')\n"
        "events.close()\n"
        "held = bytearray(b'x') * 200_000_000\n"
        "tell(1, 'log', message='told')\nsignal.pause()\n",
        memory_bytes=100_000_000,
    )
    claims = here.records.claims
    append, calls = claims.append, []

    def away_once(held, told, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise DatabaseUnavailableError("away")
        return append(held, told, **kwargs)

    monkeypatch.setattr(claims, "append", away_once)
    supervise(claim(here.records), here, CPU)
    assert found(here, job).error["code"] == "out_of_memory"
    messages = [event.data.get("message") for event in here.records.jobs.events(job.id)]
    assert "told" in messages


def test_the_run_time_before_a_reboot_counts_too(own_records: Records, monkeypatch) -> None:
    """Else a job on a host that reboots each night never reaches limits.max_runtime_s."""
    put_tiny(own_records)
    job = own_records.jobs.create(new(limits=Limits(max_runtime_s=1000)))
    monkeypatch.setattr(own_records.database, "now", lambda _: Instant(1000.0, "monday"))
    held = claim(own_records)
    monkeypatch.setattr(own_records.database, "now", lambda _: Instant(1900.0, "monday"))
    assert own_records.claims.beat(held, 12.0)
    monkeypatch.setattr(own_records.database, "now", lambda _: Instant(5.0, "tuesday"))
    own_records.recovery.recover()
    assert own_records.jobs.get(job.id).ran_s >= 900


def test_a_worker_leaves_in_time_though_the_database_is_locked(local, own_records, train) -> None:
    train("signal.pause()\n")
    worker = Worker(local, Bell(celery_app(local.effective_broker_url)))
    worker.start()
    wait_for(lambda: worker._supervised, 10)
    time.sleep(0.5)
    other = sqlite3.connect(own_records.database.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    stopping = threading.Thread(target=worker.stop, daemon=True)
    begun = boot_clock()
    stopping.start()
    stopping.join(timeout=8)
    late = stopping.is_alive()
    other.execute("ROLLBACK")
    other.close()
    stopping.join(timeout=40)
    assert not late, f"it took {boot_clock() - begun:.1f} s"


def test_a_full_redis_does_not_silence_the_ringer(tmp_path: Path) -> None:
    """`OOM command not allowed` is neither OperationalError nor OSError."""
    socket = tmp_path / "s"
    redis = subprocess.Popen(
        [find_redis(), "--save", "", "--port", "0", "--unixsocket", str(socket), "--maxmemory", "1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(socket.exists, 10)
        ringer = Ringer(Bell(celery_app(f"redis+socket://{socket}")))
        ringer.ask("job_1")
        ringer._thread.join(timeout=3)
        alive = ringer._thread.is_alive()
        ringer.close()
        assert alive
    finally:
        redis.kill()
        redis.wait()


def test_an_attempt_of_a_job_with_a_long_history_begins_within_its_lease(here, train, monkeypatch) -> None:
    """A progress line a second, ten days: all that is stored already must not be read anew."""
    job = train(DONE_BADLY)
    held = claim(here.records)
    folder = here.settings.jobs_folder / job.id / "attempt-1"
    folder.mkdir(parents=True)
    line = {
        "n": 1,
        "at": 1e9,
        "event": "progress",
        "data": {
            "epoch": 1,
            "epochs": 10,
            "step": 1,
            "steps": 1000,
            "metrics": {"loss": 0.123456, "mae": 0.123456},
            "fraction": 0.123456,
            "estimated_finish_at": "2026-01-01T00:00:00.000Z",
        },
    }
    with (folder / "events.jsonl").open("w") as file:
        for n in range(1, 864_001):
            line["n"] = n
            file.write(json.dumps(line) + "\n")
    # Stored already: only the newest row matters to `append`.
    with here.records.database.write() as connection:
        from service.jobs import EventKind
        from service.records.history import append_event

        append_event(connection, job.id, EventKind.PROGRESS, line["data"], attempt=1, child_n=864_000)
    here.records.claims.put_back(held, reason="its worker is leaving")
    held = claim(here.records)
    begun = boot_clock()
    Supervisor(held, Standby(CPU, warm=False), here)._store_leftovers()
    took = boot_clock() - begun
    assert took < 1.0, f"{took:.1f} s; the order is void after {12 * 2 / 3:.0f} s"


def test_a_child_is_told_to_stop_though_the_database_is_away(here, train, monkeypatch, tmp_path) -> None:
    """Else its worker leaves, and what was trained since the last checkpoint is lost."""
    told = tmp_path / "told"
    train(f"for line in sys.stdin:\n    if 'stop' in line:\n        open({str(told)!r}, 'w').close()\n")

    def away(*args, **kwargs):
        raise DatabaseUnavailableError("away")

    supervisor = Supervisor(claim(here.records), Standby(CPU, warm=False), here)
    monkeypatch.setattr(here.records.claims, "beat", away)
    thread = in_thread(supervisor)
    supervisor.stop()
    thread.join(timeout=5)
    was_told = told.exists()
    thread.join(timeout=20)
    assert was_told


def kept(site: Site, job, line: str) -> None:
    """Let the child of the first attempt have kept a line that its supervisor never stored."""
    folder = site.settings.jobs_folder / job.id / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text(line)


TOLD = json.dumps({"n": 1, "at": 0.0, "event": "log", "data": {"message": "told"}}) + "\n"


@pytest.mark.parametrize("cancelled", [False, True], ids=["put back", "cancelled"])
def test_what_a_child_told_before_its_worker_died_is_stored_before_its_job_moves(
    here, train, cancelled: bool
) -> None:
    """No other attempt may ever look for it: the owner can have cancelled, or cancel while it waits."""
    job = train("signal.pause()\n")
    claim(here.records, lost=True)
    kept(here, job, TOLD)
    if cancelled:
        here.records.jobs.cancel(job.id)
    with working(here.settings):
        wait_for(lambda: len(here.records.jobs.transitions(job.id)) > 2, 10)
    told = [(event.kind.value, event.data.get("message")) for event in here.records.jobs.events(job.id)]
    moved = 4 if cancelled else 3  # queued, running, cancelling; then what was kept, then what it led to
    assert told[moved - 1] == ("log", "told")
    assert told.count(("log", "told")) == 1


def test_an_events_file_that_can_not_be_read_holds_no_other_job_up(here, train) -> None:
    first = train("signal.pause()\n")
    second = here.records.jobs.create(new())
    claim(here.records, lost=True)
    claim(here.records, lost=True)
    kept(here, first, "[]\n")
    with working(here.settings):
        for job in (first, second):
            wait_for(lambda job=job: len(here.records.jobs.transitions(job.id)) > 2, 10)


def test_an_outcome_outlives_a_moment_without_the_database(here, train, monkeypatch) -> None:
    """Else hours of training would wait for the end of the lease and for a next attempt."""
    job = train(DONE_BADLY)
    claims = here.records.claims
    finish, tried = claims.finish, []

    def away_twice(*args, **kwargs):
        tried.append(boot_clock())
        if len(tried) < 3:
            raise DatabaseUnavailableError("away")
        return finish(*args, **kwargs)

    monkeypatch.setattr(claims, "finish", away_twice)
    supervise(claim(here.records), here, CPU)
    assert found(here, job).error["code"] == "nan_loss"
