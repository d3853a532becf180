"""Start the processes of the table, keep them running, and stop them all: the embedded stack."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service import tether
from service.processes import Addresses, Process, environment, process_table
from service.settings import Settings

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 10.0
SETTLED_AFTER_S = 10.0
"""A process that ran so long starts at the first back-off again."""
STOP_BESIDES_GRACE_S = 2.0
"""What a worker needs to stop besides the grace of its children."""
LOOK_EVERY_S = 0.05
# A client that asks while the worker still puts its job back should hear so; Redis goes when nobody rings.
STOP_ORDER = (("api", "worker", "serving"), ("redis",))


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


@dataclass
class Stack:
    """The embedded stack in one home folder.

    `say` is called with one sentence for every start, death and restart.
    """

    settings: Settings
    addresses: Addresses
    say: Callable[[str], None]
    _running: dict[str, _Running] = field(default_factory=dict)

    def start(self, *, within_s: float = 60.0) -> None:
        """Start everything and return when API, worker and serving answer.

        Raises:
            StackError: a port is taken, or something did not come up in time.
        """
        self._check_ports()
        self.settings.run_folder.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        for line in process_table(self.settings, self.addresses):
            self._running[line.name] = _Running(line)
            self._launch(self._running[line.name])
            if line.runs_to_end:
                self._await_end(line.name)
        self._await_ready(time.monotonic() + within_s)

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
            code = running.process.poll() if running.process else None
            if code is None:
                continue
            _kill_group(running.process)  # what it may have left
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
                if running.process and running.process.poll() is None:
                    running.process.send_signal(signal.SIGTERM)
            for running in group:
                self._await_stop(running, deadline)
        with contextlib.suppress(FileNotFoundError):
            self._endpoints.unlink()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each running process, by name."""
        return {
            name: running.process.pid
            for name, running in self._running.items()
            if running.process and running.process.poll() is None
        }

    @property
    def _logs(self) -> Path:
        return self.settings.home / "logs"

    @property
    def _endpoints(self) -> Path:
        return self.settings.run_folder / "endpoints.json"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

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
                env=_environment(environment(self.settings, self.addresses)),
                start_new_session=True,
            )
        running.started_at = time.monotonic()
        running.starts += 1
        if not running.line.runs_to_end:
            again = " again" if running.starts > 1 else ""
            self.say(f"{running.line.name} started{again} (pid {running.process.pid})")
        self._write_endpoints()

    def _await_end(self, name: str) -> None:
        running = self._running[name]
        assert running.process is not None
        code = running.process.wait()
        if code != 0:
            raise StackError(f"{name} failed: {_tail(self._log(name))}")
        told = self._log(name).read_text()
        if "token was made" in told:
            self.say(told.strip())
            self._log(name).write_text("")  # the token is shown once and kept in its own file only

    def _await_ready(self, deadline: float) -> None:
        waiting = ""
        while time.monotonic() < deadline:
            self.watch()
            waiting = self._not_ready()
            if not waiting:
                return
            time.sleep(LOOK_EVERY_S)
        logs = "\n".join(f"{name}: {_tail(self._log(name))}" for name in self._running)
        raise StackError(f"{waiting} did not come up in time.\n{logs}")

    def _not_ready(self) -> str:
        """What still doesn't answer; empty when all do."""
        try:
            state = httpx.get(f"{self.addresses.api}/readyz", timeout=3).json()
        except httpx.TransportError:
            return "api"
        missing = [part for part in ("database", "broker", "serving") if state[part] != "ok"]
        return ", ".join(missing if state["workers"] else [*missing, "worker"])

    def _await_stop(self, running: _Running, deadline: float) -> None:
        if running.process is None:
            return
        try:
            running.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.say(f"{running.line.name} did not leave in time and was killed")
        _kill_group(running.process)

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
    with socket.socket() as api, socket.socket() as grpc, socket.socket() as rest:
        for each in (api, grpc, rest):
            each.bind(("127.0.0.1", 0))
        return Addresses(
            api_port=api.getsockname()[1], grpc_port=grpc.getsockname()[1], rest_port=rest.getsockname()[1]
        )


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **extra}


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tail(path: Path, lines: int = 8) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
