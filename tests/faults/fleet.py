"""The processes under attack: two APIs, some workers, Redis, the model server, and PostgreSQL where chosen.

All are started from the one thread that also tends them: the kernel ties a child's life to the thread that
made it (`service.tether`), so that nothing outlives the harness, whatever ends it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psutil

from service import tether
from service.processes import Process, api_command, environment, past_proxies, process_table
from service.settings import Settings
from service.up import free_addresses
from tests.faults import become
from tests.faults.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
WITNESS = Path(__file__).parent / "witness"
WORKERS = 3
LEASE_S = 4.0
GRACE_S = 1.0
RECONCILE_S = 0.3
LEAVE_WITHIN_S = 15.0


class FleetError(RuntimeError):
    """The fleet can't be started or stopped."""


@dataclass
class Ship:
    """One process of the fleet, as it is now."""

    line: Process
    user: str | None = None
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    starts: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    """Further variables of this process alone, from its next start on."""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@dataclass
class Fleet:
    """Everything in one home folder."""

    home: Path
    dice: random.Random
    database: str = "sqlite"
    witnessed: dict[str, str] = field(default_factory=dict)
    """Further variables of the witness."""
    crew: int = WORKERS
    """How many workers."""
    ships: dict[str, Ship] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journal = self.home / "journal.jsonl"
        self.addresses = free_addresses()
        self.second_api = replace(self.addresses, api_port=free_addresses().api_port)
        self._logs = self.home / "logs"
        self._logs.mkdir(parents=True)
        self._stopping = False
        postgres = Postgres.prepare(self.home / "pg") if self.database == "postgresql" else None
        self.settings = Settings(
            home=self.home / "fs",
            database_url=postgres.url if postgres else "",
            serving_grpc=self.addresses.serving_grpc,
            serving_rest=self.addresses.serving_rest,
        )
        self.settings.run_folder.mkdir(parents=True)
        if postgres:
            self.ships["postgres"] = Ship(Process("postgres", postgres.command), user=postgres.user)
        for line in process_table(self.settings, self.addresses):
            self.ships[line.name] = Ship(line)
        self.ships["api2"] = Ship(
            Process("api2", api_command(sys.executable, self.second_api.host, self.second_api.api_port))
        )
        for number in range(2, self.crew + 1):
            self.ships[f"worker{number}"] = Ship(replace(self.ships["worker"].line, name=f"worker{number}"))

    @property
    def apis(self) -> list[str]:
        return [self.addresses.api, self.second_api.api]

    @property
    def workers(self) -> list[Ship]:
        return [ship for name, ship in self.ships.items() if name.startswith("worker")]

    @property
    def token(self) -> str:
        return self.settings.token_path.read_text().strip()

    def start(self, *, within_s: float = 60.0) -> None:
        """Start all in their order and wait until both APIs, the workers and the model server answer."""
        deadline = time.monotonic() + within_s
        for ship in self.ships.values():
            self._launch(ship)
            while ship.line.runs_to_end:
                assert ship.process is not None
                code = ship.process.wait(timeout=30)
                if code == 0:
                    break
                if time.monotonic() > deadline:  # PostgreSQL may need a moment
                    raise FleetError(f"{ship.line.name} ended with {code}\n{self.last_words()}")
                time.sleep(0.2)
                self._launch(ship)
        self.wait(self.ready, until=deadline)

    def wait(self, condition: Callable[[], bool], *, until: float) -> None:
        """Tend the fleet until the condition holds; FleetError with the logs if it never does."""
        while not condition():
            if time.monotonic() > until:
                raise FleetError(f"not in time: {condition.__qualname__}\n{self.last_words()}")
            self.tend()
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether everything answers."""
        try:
            states = [httpx.get(f"{api}/readyz", timeout=3, trust_env=False).json() for api in self.apis]
        except (httpx.TransportError, ValueError):
            return False
        return all(
            state["workers"] and all(state[part] == "ok" for part in ("database", "broker", "serving"))
            for state in states
        )

    def tend(self) -> None:
        """Start again, after a random pause, what has ended; call it often."""
        now = time.monotonic()
        for ship in self.ships.values():
            if ship.line.runs_to_end or self._stopping or ship.alive:
                continue
            if not ship.start_at:
                self.rest(ship, self.dice.uniform(0.1, 1.0))
            elif now >= ship.start_at:
                self._launch(ship)

    def rest(self, ship: Ship, pause_s: float) -> None:
        """Let a ship that is down stay down for so long."""
        ship.start_at = time.monotonic() + pause_s

    def stop(self) -> list[str]:
        """Stop everything in good order; what is still there afterwards, which should be nothing."""
        self._stopping = True
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        first = [name for name in self.ships if name not in ("redis", "postgres")]
        for names in (first, ["redis"], ["postgres"]):  # what others lean on goes last
            going = [self.ships[name] for name in names if name in self.ships and self.ships[name].alive]
            for ship in going:
                # SIGINT is PostgreSQL's fast shutdown, SIGTERM waits for its clients.
                ship.process.send_signal(signal.SIGINT if ship.line.name == "postgres" else signal.SIGTERM)
            deadline = time.monotonic() + LEAVE_WITHIN_S
            while any(ship.alive for ship in going) and time.monotonic() < deadline:
                time.sleep(0.05)
        _, left = psutil.wait_procs(self.processes(), timeout=3)
        named = [f"{each.pid} {' '.join(_command(each))[:120]}" for each in left if _runs(each)]
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        return named

    def processes(self) -> list[psutil.Process]:
        """Every process that was started for this fleet, however deep: all carry the journal's path."""
        mark = f"PYTHON_FAULTS_JOURNAL={self.journal}".encode()
        return [psutil.Process(pid) for pid in _pids_marked(mark)]

    def last_words(self, lines: int = 12) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in sorted(self._logs.glob("*.log"))
        )

    def _launch(self, ship: Ship) -> None:
        ship.start_at = 0.0
        ship.starts += 1
        tied: tuple[str, ...] = ("-S", "-E", tether.__file__, str(os.getpid()))
        if ship.user is not None:
            tied = ("-E", "-m", become.__name__, str(os.getpid()), ship.user)
        with (self._logs / f"{ship.line.name}.log").open("ab") as log:
            ship.process = subprocess.Popen(
                [sys.executable, *tied, *ship.line.command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._environment(), **ship.variables},
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FITSERVE_")}
        return {
            **inherited,
            **past_proxies(self.addresses.host, os.environ),
            **environment(self.settings, self.addresses),
            "FITSERVE_LEASE_S": str(LEASE_S),
            "FITSERVE_GRACE_S": str(GRACE_S),
            "FITSERVE_RECONCILE_S": str(RECONCILE_S),
            "PYTHONPATH": str(WITNESS),
            "PYTHON_FAULTS_JOURNAL": str(self.journal),
            **self.witnessed,
        }


def signal_quietly(pid: int, which: signal.Signals) -> bool:
    """Send a signal; False when there is nobody (or only a zombie) to get it."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
        os.kill(pid, which)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True


def _pids_marked(mark: bytes) -> Iterable[int]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # gone by now
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
