"""`fitserve up` where things are not as it would like them: taken homes, proxies, odd places, Ctrl-C."""

from __future__ import annotations

import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.processes import Addresses
from service.up import free_addresses
from tests.acceptance.stack import FITSERVE, RunningStack, gone, plain, wait_for


def test_a_home_is_its_owners_alone(stack: RunningStack) -> None:
    made = [path for path in (stack.home, *stack.home.rglob("*")) if not path.is_symlink()]
    assert len(made) > 5
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_stack_that_can_not_start_leaves_the_running_one_its_endpoints(stack: RunningStack) -> None:
    """Somebody types `fitserve up` twice."""
    done = _up(stack.home, stack.addresses)
    assert done.returncode == 1
    assert f"is in use by another fitserve up (pid {stack.process.pid})" in plain(done.stdout)
    assert stack.endpoints["processes"]["up"] == stack.process.pid


def test_a_home_is_used_by_one_stack_at_a_time(stack: RunningStack) -> None:
    """A second one on other ports would take the first one's Redis socket."""
    done = _up(stack.home, free_addresses())
    assert done.returncode == 1
    assert "is in use by another fitserve up" in plain(done.stdout)
    assert stack.endpoints["api"] == stack.addresses.api


def test_control_c_is_obeyed_while_the_stack_is_starting(tmp_path: Path) -> None:
    with _started(tmp_path / "home", broker_url="redis://127.0.0.1:1/0") as starting:  # never ready
        wait_for(lambda: "serving started" in starting.output, 30)
        family = starting.family()
        starting.process.send_signal(signal.SIGINT)
        wait_for(lambda: starting.process.poll() is not None, 5)
        assert starting.process.returncode == 0
        assert "fitserve is up" not in starting.output
        assert gone(family) == []


@pytest.mark.full
def test_neither_a_proxy_in_the_environment_nor_an_odd_home_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is not asked for our own ports; the home's name would mean something in a URL."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):  # gRPC reads the second only
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with _started(tmp_path / "a#b?c%41 d") as stack:
        stack.wait_until_up(25)
        assert (stack.home / "fitserve.db").exists()


def test_a_home_too_deep_for_a_socket_is_refused_at_once(tmp_path: Path) -> None:
    home = tmp_path / ("d" * 60) / ("e" * 60)
    done = _up(home, free_addresses())
    assert done.returncode == 1
    assert "is too long for a socket" in plain(done.stdout)
    assert not home.exists()


def _up(home: Path, at: Addresses) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which should come soon."""
    ports = [f"--api-port={at.api_port}", f"--grpc-port={at.grpc_port}", f"--rest-port={at.rest_port}"]
    return subprocess.run(
        [FITSERVE, "up", "--home", str(home), *ports],
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )


@contextmanager
def _started(home: Path, **settings: str) -> Iterator[RunningStack]:
    """A stack that may never come up; ended whatever state it is in. It trains nothing, so no child waits."""
    stack = RunningStack(home, standby="false", **settings)
    try:
        yield stack
    finally:
        family = stack.family() if stack.process.poll() is None else []
        stack.stop()
        assert gone(family) == []
