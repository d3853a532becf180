"""Deadlines of many short calls, for a fraction of what `asyncio.timeout` takes: nearly all are kept.

A timer a call would be set and taken back thousands of times a second; here one is set for the earliest.
"""

import asyncio
from types import TracebackType


class Deadlines:
    """The calls of one event loop that have a deadline."""

    def __init__(self) -> None:
        self._calls: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def within(self, timeout_s: float | None) -> "Deadline":
        """Return the block that may take so long; None for as long as it takes."""
        return Deadline(self, timeout_s)

    def enter(self, call: "Deadline") -> None:
        """Take in a call, which knows when it is late."""
        self._calls.add(call)
        if self._timer is None or call.late_at < self._timer_at:
            self._set(call.late_at)

    def leave(self, call: "Deadline") -> None:
        """Forget a call."""
        self._calls.discard(call)

    def _set(self, late_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = late_at
        self._timer = asyncio.get_running_loop().call_at(late_at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        # A loop's timer may come a millisecond early (uvloop counts whole ones).
        now = asyncio.get_running_loop().time() + 0.001
        for call in [call for call in self._calls if call.late_at <= now]:
            self._calls.discard(call)
            call.expire()
        if self._calls:
            self._set(min(call.late_at for call in self._calls))


class Deadline:
    """Cancels the task inside the block when time is up; the block then ends with TimeoutError."""

    __slots__ = ("_calls", "_cancelling", "_expired", "_task", "_timeout_s", "late_at")

    def __init__(self, calls: Deadlines, timeout_s: float | None) -> None:
        self._calls = calls
        self._timeout_s = timeout_s
        self._expired = False

    def __enter__(self) -> "Deadline":
        if self._timeout_s is not None:
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("a deadline belongs to a task")
            self._task, self._cancelling = task, task.cancelling()
            self.late_at = asyncio.get_running_loop().time() + self._timeout_s
            self._calls.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timeout_s is None:
            return
        self._calls.leave(self)
        # Cancelled by somebody else as well, the task has to end as cancelled.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task."""
        self._expired = True
        self._task.cancel()
