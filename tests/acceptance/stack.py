"""Drive a real `fitserve up` from outside: start it, read what it prints, ask it, kill parts of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from fitserve import Client
from service.up import free_addresses

FITSERVE = str(Path(sys.executable).with_name("fitserve"))


class RunningStack:
    """`fitserve up` in a process of its own, on free ports, in a home of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.addresses = free_addresses()
        self._output = home.parent / f"{home.name}.out"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FITSERVE_")},
            **{f"FITSERVE_{name.upper()}": value for name, value in settings.items()},
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    FITSERVE,
                    "up",
                    *("--home", str(home)),
                    *("--api-port", str(self.addresses.api_port)),
                    *("--grpc-port", str(self.addresses.grpc_port)),
                    *("--rest-port", str(self.addresses.rest_port)),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def wait_until_up(self, within_s: float = 90) -> None:
        wait_for(lambda: "fitserve is up" in self.output or self.process.poll() is not None, within_s)
        assert "fitserve is up" in self.output, self.output

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def endpoints(self) -> Mapping[str, Any]:
        return json.loads((self.home / "run" / "endpoints.json").read_text())

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def client(self) -> Client:
        return Client(self.addresses.api, self.token)

    def pid(self, name: str) -> int:
        return self.endpoints["processes"][name]

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to the stack, however deep, `up` itself included."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> float:
        """Ask it to stop; the seconds that it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        self.process.wait(timeout=30)
        return time.monotonic() - began

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-3000:]}" for log in (self.home / "logs").glob("*.log")
        )


def wait_for(condition: Callable[[], object], within_s: float = 60, every_s: float = 0.05) -> Any:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every_s)
    raise AssertionError(f"not within {within_s} s: {condition}")


def gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that are still there after a moment."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def example(which: str, /, **changes: Any) -> dict[str, Any]:
    """An example spec, some of its top-level fields replaced."""
    path = Path(__file__).parents[2] / "examples" / f"{which}.json"
    return {**json.loads(path.read_text()), **changes}


def plain(text: str) -> str:
    """The text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
