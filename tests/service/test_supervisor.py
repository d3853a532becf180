"""One attempt under supervision, with a small program in place of the real child."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from service.attempt import LEFT_ALONE, keep_temporary_files_in
from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import Kind, Limits, Phase, SlotKind, Status
from service.kind import Site
from service.protocol import Order, boot_clock, say
from service.records import Records
from service.settings import Settings
from service.slots import SHORT
from service.standby import Standby
from service.supervisor import Supervisor
from serving.store import Store
from tests.acceptance.stack import wait_for
from tests.service.workbench import child_that, claim, new, put_tiny, supervise


def order_in(folder: Path, *, within_s: float) -> Order:
    until = boot_clock() + within_s
    return Order("job_1", "ingest", 1, 1, {}, None, None, "", None, str(folder), str(folder), until, {})


def test_a_claim_that_is_void_starts_no_child(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its worker was frozen between claim and spawn; two attempts would train until the first heartbeat."""
    child_that(monkeypatch, tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    put_tiny(site.records, ready=False)
    site.records.jobs.create(new(Kind.INGEST))
    stale = claim(site.records, slot=SlotKind.SHORT, lost=True)
    site.records.recovery.recover()
    claim(site.records, slot=SlotKind.SHORT)
    supervise(stale, site)
    assert not (tmp_path / "ran").exists()


def test_a_child_that_left_for_want_of_a_heartbeat_did_not_die(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 75: worker or database paused for two thirds of a lease. The spec is not to blame."""
    child_that(monkeypatch, tmp_path, "import time\ntime.sleep(1.1)\nsys.exit(75)\n")
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST, limits=Limits(max_attempts=1)))
    held = site.records.claims.claim_next(SlotKind.SHORT, "w", 1.5)
    quick = Site(site.settings.model_copy(update={"lease_s": 1.5}), site.records, site.store)
    monkeypatch.setattr("service.attendance.BEATS_PER_LEASE", 0.1)  # a beat each 15 s
    supervise(held, quick)
    now = site.records.jobs.get(job.id)
    assert (now.status, now.deaths) == (Status.QUEUED, 0)


def test_a_child_that_hangs_after_its_outcome_is_not_waited_for(
    local: Settings, own_records: Records, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child_that(
        monkeypatch,
        tmp_path,
        "tell(1, 'outcome', ending='failed', peak_memory_bytes=1,\n"
        "     error={'code': 'x', 'detail': 'x', 'retryable': False})\n"
        "signal.pause()\n",
    )
    put_tiny(own_records, ready=False)
    job = own_records.jobs.create(new(Kind.INGEST))
    site = Site(local, own_records, Store(local.store_root))
    supervisor = Supervisor(claim(own_records, slot=SlotKind.SHORT), Standby(SHORT, warm=False), site)
    thread = threading.Thread(target=supervisor.run, daemon=True)
    thread.start()
    thread.join(timeout=5)
    still_waiting = thread.is_alive()
    own_records.jobs.cancel(job.id)
    supervisor.nudge()
    thread.join(timeout=10)
    assert not still_waiting


def test_an_event_that_can_not_be_stored_does_not_make_a_job_run_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PostgreSQL refuses a step beyond 32 bits: the job is put back without a death, again and again."""
    child_that(monkeypatch, tmp_path, "tell(1, 'metric', epoch=1, step=2**31, metrics={})\n")
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST, limits=Limits(max_attempts=1)))
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    assert site.records.jobs.get(job.id).status is Status.FAILED


def test_a_damaged_events_file_of_an_earlier_attempt_does_not_stop_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is flushed, not synced: a power cut leaves zeros in it."""
    child_that(monkeypatch, tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST))
    site.records.claims.put_back(claim(site.records, slot=SlotKind.SHORT), reason="power cut")
    kept = site.settings.jobs_folder / job.id / "attempt-1" / "events.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(64) + b"\n")
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    assert (tmp_path / "ran").exists()


def test_a_killed_child_leaves_no_temporary_files(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorFlow and the exporters keep whole models in theirs."""
    left = "os.makedirs(order['attempt_folder'] + '/tmp/model')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    child_that(monkeypatch, tmp_path, left)
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST))
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    folder = site.settings.jobs_folder / job.id / "attempt-1"
    assert (folder / "order.json").exists()
    assert not (folder / "tmp").exists()
    (folder / "tmp").mkdir()  # as one does whose supervisor died with it
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    assert not (folder / "tmp").exists()


def test_temporary_files_are_kept_with_the_attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    keep_temporary_files_in(tmp_path / "tmp")
    assert tempfile.gettempdir() == str(tmp_path / "tmp")
    shown = subprocess.run(["mktemp", "-u"], check=True, capture_output=True, text=True).stdout
    assert shown.startswith(str(tmp_path / "tmp"))


def test_no_event_calls_a_job_running_that_is_cancelling(records: Records) -> None:
    """Whoever follows the events would see it go back."""
    job = records.jobs.create(new())
    held = claim(records)
    records.jobs.cancel(job.id)
    records.claims.enter(held, Phase.PUBLISHING)
    assert [event.data["status"] for event in records.jobs.events(job.id)][-2:] == ["cancelling"] * 2


def test_a_child_that_holds_the_interpreter_lock_leaves_at_its_deadline_too(tmp_path: Path) -> None:
    """Native code need not give the lock up, and no thread of Python runs then; exporter.child knows how."""
    program = (
        "import re, sys\n"
        "from service.attempt import SupervisorChannel\n"
        "channel = SupervisorChannel(sys.stdin.buffer, open(sys.argv[1] + '/told', 'wb'))\n"
        "channel.start()\n"
        "channel.order()\n"
        "open(sys.argv[1] + '/at-work', 'wb').close()\n"
        "re.match('(a+)+$', 'a' * 60 + 'b')\n"  # one C call, as good as endless
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE)
    child.stdin.write(say(order=str(order_in(tmp_path, within_s=4).write())))
    child.stdin.flush()
    try:
        wait_for((tmp_path / "at-work").exists, 3.5)  # before its deadline
        wait_for(lambda: child.poll() is not None, 6)
    finally:
        child.kill()
        child.communicate()


@contextlib.contextmanager
def child_at_work(folder: Path, *, within_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A child that has its order, and so long to live."""
    program = (
        "import sys, threading\n"
        "from service.attempt import SupervisorChannel\n"
        "channel = SupervisorChannel(sys.stdin.buffer, open(sys.argv[1] + '/told', 'wb'))\n"
        "channel.start()\n"
        "channel.order()\n"
        "open(sys.argv[1] + '/at-work', 'wb').close()\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        child.stdin.write(say(order=str(order_in(folder, within_s=within_s).write())))
        child.stdin.flush()
        try:
            yield child
        finally:
            child.kill()


def test_a_child_leaves_when_no_heartbeat_reaches_it_and_says_why_by_its_exit_code(tmp_path: Path) -> None:
    with child_at_work(tmp_path, within_s=4) as child:
        assert child.wait(timeout=20) == LEFT_ALONE


def test_a_child_leaves_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    with child_at_work(tmp_path, within_s=600) as child:
        wait_for((tmp_path / "at-work").exists, 10)
        child.stdin.close()
        assert child.wait(timeout=10) == LEFT_ALONE


def test_an_attempt_ends_with_its_lease_when_the_database_does_not_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another worker may have the job by then."""
    child_that(monkeypatch, tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\nsys.stdin.read()\n")
    put_tiny(site.records, ready=False)
    job = site.records.jobs.create(new(Kind.INGEST))
    quick = Site(site.settings.model_copy(update={"lease_s": 1.5}), site.records, site.store)
    held = site.records.claims.claim_next(SlotKind.SHORT, "w", 1.5)

    def beat(*_: object) -> None:
        raise DatabaseUnavailableError("away")

    monkeypatch.setattr(site.records.claims, "beat", beat)
    supervisor = threading.Thread(target=supervise, args=(held, quick), daemon=True)
    supervisor.start()
    supervisor.join(timeout=10)
    assert not supervisor.is_alive()
    assert (tmp_path / "ran").exists()
    assert site.records.jobs.get(job.id).status is Status.RUNNING  # it wrote nothing more


def test_a_childs_own_children_end_with_the_attempt(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A converter that goes on would hold memory, and write into a folder that is somebody else's."""
    pid_file = tmp_path / "pid"
    inner = "import time; time.sleep(60)"
    child_that(
        monkeypatch,
        tmp_path,
        "import subprocess\n"
        f"inner = subprocess.Popen([{sys.executable!r}, '-c', {inner!r}])\n"
        f"open({str(pid_file)!r}, 'w').write(str(inner.pid))\n"
        "tell(1, 'outcome', ending='stopped', peak_memory_bytes=1)\n",
    )
    put_tiny(site.records, ready=False)
    site.records.jobs.create(new(Kind.INGEST))
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    inner_process = int(pid_file.read_text())
    wait_for(lambda: ended(inner_process), 5)


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_gets_no_password_of_the_workers_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    child_that(monkeypatch, tmp_path, f"json.dump(dict(os.environ), open({str(tmp_path / 'env')!r}, 'w'))\n")
    put_tiny(site.records, ready=False)
    site.records.jobs.create(new(Kind.INGEST))
    supervise(claim(site.records, slot=SlotKind.SHORT), site)
    given = json.loads((tmp_path / "env").read_text())
    assert {"PGPASSWORD", "AWS_SECRET_ACCESS_KEY"}.isdisjoint(given)


def test_a_peer_that_froze_in_a_transaction_gives_its_locks_up(postgres_url: str) -> None:
    """A stopped worker that holds a job's row keeps cancel waiting and the reconciler away from it."""
    records = Records(postgres_url)
    with records.database.read() as connection:
        limit = connection.execute(sqlalchemy.text("SHOW idle_in_transaction_session_timeout")).scalar_one()
    records.close()
    assert limit != "0"


def test_a_frozen_child_never_holds_its_supervisor_up(tmp_path: Path) -> None:
    """A stopped process reads nothing: beats would fill the pipe in time, and a write would wait."""
    child = Child.spawn(SHORT)
    child.begin(order_in(tmp_path, within_s=60))
    try:
        os.kill(child.pid, signal.SIGSTOP)
        for _ in range(10_000):  # several times what a pipe holds
            child.say(leave_at=boot_clock() + 60)
    finally:
        child.discard()
