"""What a supervisor and its child say to each other: JSON lines, in both directions.

The child reads from stdin: first `{"order": path}`, which may come long after its start and names the file
of its Order, then any of `{"leave_at": seconds}` (a heartbeat: the moment on the boot-time clock by which the
child leaves by itself unless told again), `{"cancel": true}` and `{"stop": true}`. At the end of stdin, which
means that the supervisor is gone, the child leaves. Every line is short enough for a pipe to take it whole.

The child writes to a descriptor of its own `{"n", "at", "event", "data"}`. `event` is an EventKind, or
`outcome`, which comes last and once. stdout and stderr are the attempt's log: native libraries write there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

OUTCOME = "outcome"
TEMPORARY = "tmp"


class Ending(StrEnum):
    """How a child says that it ended."""

    DONE = "done"
    """The work is complete; `data` is what the kind's completion needs."""
    FAILED = "failed"
    """`error` says why."""
    STOPPED = "stopped"
    """Told to stop: the checkpoint is written, the job can go on elsewhere."""
    CANCELLED = "cancelled"
    """Told to cancel."""


@dataclass(frozen=True)
class Order:
    """All that a child is told of its work."""

    job_id: str
    kind: str
    attempt: int
    token: int
    spec: Mapping[str, Any]
    name: str | None
    seed: int | None
    spec_digest: str
    dataset_digest: str | None
    attempt_folder: str  # of this attempt: log, events
    work_folder: str  # of the job, kept from one attempt to the next: checkpoints
    leave_at: float
    details: Mapping[str, Any]  # what the kind's `prepare` adds

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory that the job may take, as its spec says."""
        limit: int | None = (self.spec.get("limits") or {}).get("memory_bytes")
        return limit

    @property
    def temporary_folder(self) -> Path:
        """Where the child and its own children keep temporary files; the supervisor removes it."""
        return Path(self.attempt_folder) / TEMPORARY

    def write(self) -> Path:
        """Write the order into its attempt's folder."""
        path = Path(self.attempt_folder) / "order.json"
        path.touch(mode=0o600)  # a URI in it may carry a password
        path.write_text(json.dumps(asdict(self)))
        return path

    @staticmethod
    def read(path: Path) -> Order:
        """The order that a supervisor wrote."""
        return Order(**json.loads(path.read_text()))


def told(n: int, event: str, data: Mapping[str, Any]) -> bytes:
    """One line of a child."""
    return _line({"n": n, "at": time.time(), "event": event, "data": dict(data)})


def say(**message: Any) -> bytes:
    """One line of a supervisor."""
    return _line(message)


def boot_clock() -> float:
    """Seconds since boot, suspended time included: the same clock in supervisor and child."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
