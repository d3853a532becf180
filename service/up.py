"""Start the processes of the table, keep them running, and stop them all: the embedded stack."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service import tether
from service.home_lock import HomeLock
from service.ports import free_ports
from service.processes import Addresses, Process, environment, past_proxies, process_table
from service.settings import Settings

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 10.0
SETTLED_AFTER_S = 10.0
"""A process that ran so long starts at the first back-off again."""
STOP_BESIDES_GRACE_S = 2.0
"""What a worker needs to stop besides the grace of its children."""
LOOK_EVERY_S = 0.05
# A client that asks while the worker still puts its job back should hear so; Redis goes when nobody rings.
STOP_ORDER = (("init", "api", "worker", "serving"), ("redis",))
LONGEST_SOCKET_BYTES = 107
"""sockaddr_un has room for 108 with the NUL (unix(7)); Redis cuts off silently what is longer."""


class StackError(RuntimeError):
    """The stack can't start; the text says why and what to do."""


@dataclass
class _Running:
    """One process of the table as it is now."""

    line: Process
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    start_again_at: float | None = None
    starts: int = 0

    @property
    def alive(self) -> bool:
        """Whether it runs. Its end is seen without reaping it: so long nobody else can get its pid."""
        if self.process is None or self.process.returncode is not None:
            return False
        seen = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return seen is None

    def end(self) -> int:
        """Kill what is left of its group, once, and reap it; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


@dataclass
class Stack:
    """The embedded stack in one home folder.

    `say` is called with one sentence for every start, death and restart.
    """

    settings: Settings
    addresses: Addresses
    say: Callable[[str], None]
    _running: dict[str, _Running] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = HomeLock(self.settings.run_folder / "lock")

    def start(self, leaving: threading.Event | None = None, *, within_s: float = 60.0) -> bool:
        """Start everything; True when API, worker and serving answer, False as soon as `leaving` is set.

        Raises:
            HomeInUseError: another stack runs in this home; nothing of it was touched.
            NoRedisError: there is no redis-server.
            StackError: a port is taken, the home is too deep, or something did not come up in time.
        """
        leaving = leaving or threading.Event()
        self._check_socket()
        self.settings.run_folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        self._check_ports()
        self._logs.mkdir(parents=True, exist_ok=True)
        for line in process_table(self.settings, self.addresses):
            if leaving.is_set():
                return False
            running = self._running[line.name] = _Running(line)
            self._launch(running)
            if line.runs_to_end:
                self._await_end(running, leaving)
        return self._await_ready(time.monotonic() + within_s, leaving)

    def watch(self) -> None:
        """Look once: start again, with back-off, what has died. Call it often."""
        for running in self._running.values():
            if running.line.runs_to_end:
                continue
            now = time.monotonic()
            if running.start_again_at is not None:
                if now >= running.start_again_at:
                    running.start_again_at = None
                    self._launch(running)
                continue
            if running.alive:
                continue
            code = running.end()  # and of what it may have left
            if now - running.started_at >= SETTLED_AFTER_S:
                running.backoff_s = FIRST_BACKOFF_S
            self.say(
                f"{running.line.name} ended with {_ending(code)}; starting again in {running.backoff_s:.1f} s"
                f" (log: {self._log(running.line.name)})"
            )
            running.start_again_at = now + running.backoff_s
            running.backoff_s = min(LONGEST_BACKOFF_S, running.backoff_s * 2)

    def stop(self) -> None:
        """Stop everything, the API and workers first; what does not leave in time is killed."""
        deadline = time.monotonic() + self.settings.grace_s + STOP_BESIDES_GRACE_S
        for names in STOP_ORDER:
            group = [self._running[name] for name in names if name in self._running]
            for running in group:
                if running.process and running.alive:
                    os.kill(running.process.pid, signal.SIGTERM)
            for running in group:
                self._await_stop(running, deadline)
        if self._lock.held:
            self._endpoints.unlink(missing_ok=True)
            self._lock.release()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each running process, by name."""
        return {
            name: running.process.pid
            for name, running in self._running.items()
            if running.process and running.alive
        }

    @property
    def _logs(self) -> Path:
        return self.settings.home / "logs"

    @property
    def _endpoints(self) -> Path:
        return self.settings.run_folder / "endpoints.json"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _check_socket(self) -> None:
        socket_bytes = len(os.fsencode(self.settings.redis_socket))
        if not self.settings.broker_url and socket_bytes > LONGEST_SOCKET_BYTES:
            raise StackError(
                f"{self.settings.redis_socket} is too long for a socket: {socket_bytes} bytes, at most "
                f"{LONGEST_SOCKET_BYTES}; choose a home less deep (fitserve up --home), or name a Redis "
                "(FITSERVE_BROKER_URL)"
            )

    def _check_ports(self) -> None:
        for what, port in (
            ("the API", self.addresses.api_port),
            ("gRPC serving", self.addresses.grpc_port),
            ("REST serving", self.addresses.rest_port),
        ):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.addresses.host, port))
                except OSError as error:
                    raise StackError(
                        f"port {port} for {what} can't be had ({error.strerror}); "
                        "stop what listens there, or choose another port (fitserve up --help)"
                    ) from error

    def _launch(self, running: _Running) -> None:
        with self._log(running.line.name).open("ab") as log:
            running.process = subprocess.Popen(
                [sys.executable, "-S", "-E", tether.__file__, str(os.getpid()), *running.line.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **past_proxies(self.addresses.host, os.environ),
                    **environment(self.settings, self.addresses),
                },
                start_new_session=True,
            )
        running.started_at = time.monotonic()
        running.starts += 1
        if not running.line.runs_to_end:
            again = " again" if running.starts > 1 else ""
            self.say(f"{running.line.name} started{again} (pid {running.process.pid})")
        self._write_endpoints()

    def _await_end(self, running: _Running, leaving: threading.Event) -> None:
        while running.alive:
            if leaving.wait(LOOK_EVERY_S):
                return
        name = running.line.name
        if running.end() != 0:
            raise StackError(f"{name} failed: {_tail(self._log(name))}")
        told = self._log(name).read_text()
        if "token was made" in told:
            self.say(told.strip())
            self._log(name).write_text("")  # the token is shown once and kept in its own file only

    def _await_ready(self, deadline: float, leaving: threading.Event) -> bool:
        waiting = ""
        while time.monotonic() < deadline:
            self.watch()
            if leaving.is_set():
                return False
            waiting = self._not_ready()
            if not waiting:
                return True
            leaving.wait(LOOK_EVERY_S)
        logs = "\n".join(f"{name}: {_tail(self._log(name))}" for name in self._running)
        raise StackError(f"{waiting} did not come up in time.\n{logs}")

    def _not_ready(self) -> str:
        """What still doesn't answer; empty when all do."""
        try:
            # Our own port: a proxy of the environment is for the world outside.
            state = httpx.get(f"{self.addresses.api}/readyz", timeout=3, trust_env=False).json()
        except httpx.TransportError:
            return "api"
        missing = [part for part in ("database", "broker", "serving") if state[part] != "ok"]
        return ", ".join(missing if state["workers"] else [*missing, "worker"])

    def _await_stop(self, running: _Running, deadline: float) -> None:
        if running.process is None:
            return
        while running.alive and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        if running.alive:
            self.say(f"{running.line.name} did not leave in time and was killed")
        running.end()

    def _write_endpoints(self) -> None:
        """Tell clients and tests where everything is; replaced in one step."""
        document = {
            "api": self.addresses.api,
            "serving_grpc": self.addresses.serving_grpc,
            "serving_rest": self.addresses.serving_rest,
            "token_file": str(self.settings.token_path.absolute()),
            "processes": {"up": os.getpid(), **self.pids},
        }
        draft = self._endpoints.with_suffix(".tmp")
        draft.write_text(json.dumps(document, indent=1))
        draft.replace(self._endpoints)


def free_addresses() -> Addresses:
    """Three ports that nobody listens on now."""
    api, grpc, rest = free_ports(3)
    return Addresses(api_port=api, grpc_port=grpc, rest_port=rest)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tail(path: Path, lines: int = 8) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
