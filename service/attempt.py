"""The child: does one attempt of one job in a process of its own. No API, no SQL.

TensorFlow gives device memory back only when its process ends, and a crash in native code takes its process
along: so a job owns a process, and the worker never imports what this one does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from service.jobs import EventKind, Kind, Phase, Status
from service.kind import Cancelled, Interrupted, work_of
from service.protocol import OUTCOME, Ending, Order, boot_clock, told
from service.tether import tie_to

LEFT_ALONE = 75  # EX_TEMPFAIL: the supervisor is gone, or its heartbeat is
ALARM_AFTER_S = 0.5

log = logging.getLogger(__name__)


class SupervisorChannel:
    """Events to the supervisor, orders from it."""

    def __init__(self, orders: BinaryIO, events: BinaryIO) -> None:
        self._orders = orders
        self._events = events
        self._kept: BinaryIO | None = None
        self._sending = threading.Lock()
        self._n = 0
        self._order: Order | None = None
        self._ordered = threading.Event()
        self._leave_at = math.inf
        self.stop_asked = False
        self.cancel_asked = False

    def start(self) -> None:
        """Listen to the supervisor from now on, and leave when it is gone."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def order(self) -> Order:
        """Wait for the order. From its arrival on, this process leaves when the supervisor falls silent."""
        self._ordered.wait()
        assert self._order is not None
        return self._order

    def keep(self, file: Path) -> None:
        """Keep what is told from now on in this file, too."""
        self._kept = file.open("ab")

    def tell(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Send one event, kept on disk first: a supervisor that dies before it stores it loses nothing."""
        self._send(kind.value, data, kept=True)

    def end(self, ending: Ending, **data: Any) -> None:
        """Send the outcome, the last line."""
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Not kept: an attempt whose supervisor is gone ended in vain, and the disk may be what is full.
        outcome = {"ending": ending.value, "peak_memory_bytes": peak_kib * 1024, **data}
        self._send(OUTCOME, outcome, kept=False)

    def _send(self, event: str, data: Mapping[str, Any], *, kept: bool) -> None:
        with self._sending:
            self._n += 1
            line = told(self._n, event, data)
            if kept:
                assert self._kept is not None
                self._kept.write(line)
                self._kept.flush()
            try:
                self._events.write(line)
                self._events.flush()
            except BrokenPipeError:
                os._exit(LEFT_ALONE)

    def _listen(self) -> None:
        for line in self._orders:
            message = json.loads(line)
            if "order" in message:
                self._order = _read_order(Path(message["order"]))
                self._leave_at = self._order.leave_at
                self._arm()
                threading.Thread(target=self._watch_lease, name="lease", daemon=True).start()
                self._ordered.set()
            if "leave_at" in message:
                self._leave_at = message["leave_at"]
                self._arm()
            self.stop_asked = self.stop_asked or "stop" in message
            self.cancel_asked = self.cancel_asked or "cancel" in message
        os._exit(LEFT_ALONE)

    def _arm(self) -> None:
        """Have the kernel end us soon after the deadline, should native code let no thread of Python run."""
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self._leave_at + ALARM_AFTER_S - boot_clock()))

    def _watch_lease(self) -> None:
        # A frozen supervisor loses its lease to another worker: without this, two attempts would train.
        while boot_clock() < self._leave_at:
            time.sleep(min(0.5, max(0.01, self._leave_at - boot_clock())))
        print("left alone: no heartbeat within the lease", file=sys.stderr, flush=True)  # noqa: T201 - the log
        os._exit(LEFT_ALONE)


def main() -> int:
    """Run `python -m service.attempt EVENTS_FD SLOT_KIND`: import, wait for an order on stdin, follow it."""
    tie_to(os.getppid(), signal.SIGKILL)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    channel = SupervisorChannel(sys.stdin.buffer, os.fdopen(int(sys.argv[1]), "wb"))
    channel.start()
    for kind in Kind:
        if kind.slot.value == sys.argv[2]:
            work_of(kind).warm_up()
    order = channel.order()
    try:
        _log_to(Path(order.attempt_folder) / "log")
        keep_temporary_files_in(order.temporary_folder)
        channel.keep(Path(order.attempt_folder) / "events.jsonl")
        channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": Phase.STARTING.value})
        outcome = work_of(Kind(order.kind)).run(order, channel)
    except Interrupted:
        channel.end(Ending.STOPPED)
    except Cancelled:
        channel.end(Ending.CANCELLED)
    except Exception as error:
        with contextlib.suppress(OSError):  # a log on a full disk must not keep the outcome back
            traceback.print_exc()
        channel.end(Ending.FAILED, error=error_of(error))
    else:
        channel.end(Ending.DONE, data=outcome)
    return 0


def _read_order(path: Path) -> Order:
    """Read the order, or end this process: whoever gave it would wait for ever."""
    try:
        return Order.read(path)
    except (OSError, ValueError, TypeError):
        with contextlib.suppress(OSError):
            traceback.print_exc()
        os._exit(1)


def _log_to(path: Path) -> None:
    """Send stdout and stderr to the attempt's log, with what they got before this was an attempt."""
    said = os.pread(1, os.fstat(1).st_size, 0)
    log_file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(log_file, said)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
    os.close(log_file)


def keep_temporary_files_in(folder: Path) -> None:
    """Keep them where the supervisor finds them: a killed process, or its own child, removes none."""
    folder.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # asked anew


def error_of(error: Exception) -> dict[str, Any]:
    """The `error` of a failed job: what an error says of itself, or what can be told of it."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        told_error: dict[str, Any] = {
            "code": code,
            "detail": str(error),
            "retryable": bool(getattr(error, "retryable", False)),
        }
        for extra in ("remedy", "location"):
            value = getattr(error, extra, None)
            if value is not None:
                told_error[extra] = dict(value) if isinstance(value, Mapping) else value
        return told_error
    if isinstance(error, MemoryError):
        return {
            "code": "out_of_memory",
            "detail": str(error) or "the process could not get more memory",
            "retryable": False,
            "remedy": "lower batch_size, or make the model smaller",
        }
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return {
            "code": "disk_full",
            "detail": str(error),
            "retryable": True,
            "remedy": "make room where the job folders and the model store are",
        }
    return {
        "code": "internal",
        "detail": f"{type(error).__name__}: {error}",
        "retryable": False,
        "remedy": "the attempt's log has the traceback; please report it",
    }


if __name__ == "__main__":
    sys.exit(main())
