"""What the kernel tells of a child and its own children: their memory, and whether one stands still."""

from __future__ import annotations

import contextlib

import psutil

from service.protocol import boot_clock


class Vitals:
    """The process group of one child, looked at now and then.

    `memory_bytes` and `peak_memory_bytes` are resident memory, the sum over the group; what processes
    share is counted in each.
    """

    def __init__(self, pid: int) -> None:
        self._leader = psutil.Process(pid)
        self._stopped_since: float | None = None
        self.stood_still = False  # whether one of them was ever seen stopped (SIGSTOP)
        self.memory_bytes = 0
        self.peak_memory_bytes = 0

    def look(self) -> None:
        """Take the figures anew."""
        memory_bytes, stopped = 0, False
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._leader, *self._leader.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                    memory_bytes += process.memory_info().rss
                    stopped = stopped or process.status() in (
                        psutil.STATUS_STOPPED,
                        psutil.STATUS_TRACING_STOP,
                    )
        self.memory_bytes = memory_bytes
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)
        self.stood_still = self.stood_still or stopped
        if not stopped:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = boot_clock()

    @property
    def stopped_s(self) -> float:
        """Seconds for which one of them has been stopped (SIGSTOP), 0 if none is."""
        return 0.0 if self._stopped_since is None else boot_clock() - self._stopped_since
