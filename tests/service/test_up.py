from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.processes import Process, environment
from service.settings import Settings
from service.up import _Running, free_addresses
from tests.acceptance.stack import gone, wait_for

LEAVES_ONE_BEHIND = (
    "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
)


def test_a_process_keeps_its_id_until_what_it_left_is_killed() -> None:
    """A process id that was given back may name a stranger's group when it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", LEAVES_ONE_BEHIND], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        left = psutil.Process(int(process.stdout.readline()))
    running = _Running(Process("short", ()), process)
    wait_for(lambda: not running.alive, 10)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert running.end() == 0
    assert gone([left]) == []
    assert not psutil.pid_exists(process.pid)


def test_a_process_that_was_killed_tells_by_which_signal_however_often_it_is_ended() -> None:
    running = _Running(Process("long", ()), subprocess.Popen(["sleep", "60"], start_new_session=True))
    assert running.alive
    assert [running.end(), running.end()] == [-signal.SIGKILL, -signal.SIGKILL]
    assert not running.alive


def test_every_setting_is_passed_on_whoever_chose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(
        home=tmp_path / "home",
        standby=False,
        plugins="acme.models",
        lease_s=7.5,
        max_upload_bytes=1000,
        slots="cpu*2",
        log_level="DEBUG",
    )
    for name, value in environment(chosen, free_addresses()).items():
        monkeypatch.setenv(name, value)
    passed_on = Settings()
    for name in ("home", "standby", "plugins", "lease_s", "max_upload_bytes", "slots", "log_level"):
        assert getattr(passed_on, name) == getattr(chosen, name)
    assert passed_on.effective_database_url == chosen.effective_database_url
