"""Ends the work for a client that has gone; ASGI tells that only to whoever asks for a further message."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

# Calls that are shorter than two of these aren't watched: for most of them it would cost more than it saves.
_TICK_S = 0.025
_POLL_S = 0.05


class Disconnects:
    """The calls of one event loop; one timer for all of them finds those that last."""

    def __init__(self) -> None:
        self._calls: set[Watched] = set()
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, receive: Callable[[], Awaitable[Any]]) -> "Watched":
        """Return the block in which one call is answered.

        `receive` is ASGI's, after the whole body was read. Fronts that answer at once are asked every 50 ms.
        """
        return Watched(self, receive)

    def enter(self, call: "Watched") -> int:
        """Take a call in; return the number of the tick."""
        self._calls.add(call)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        return self._ticks

    def leave(self, call: "Watched") -> None:
        """Forget a call."""
        self._calls.discard(call)

    def _tick(self) -> None:
        self._ticks += 1
        for call in self._calls:
            if call.entered <= self._ticks - 2:
                call.begin()
        self._timer = None
        if self._calls:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)


class Watched:
    """Cancels the task inside the block once its client is gone; the block then ends without an error."""

    __slots__ = ("_calls", "_gone", "_receive", "_task", "_watching", "entered")

    def __init__(self, calls: Disconnects, receive: Callable[[], Awaitable[Any]]) -> None:
        self._calls = calls
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> "Watched":
        self._task = asyncio.current_task()
        self.entered = self._calls.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._calls.leave(self)
        if self._watching is not None:
            self._watching.cancel()
        if not (self._gone and kind is asyncio.CancelledError and self._task is not None):
            return False
        return self._task.uncancel() == 0

    def begin(self) -> None:
        """Ask for further messages from now on."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        # Shielded: the front answers in any case once the request has ended, and fails if nobody may be told.
        while (await asyncio.shield(self._receive()))["type"] != "http.disconnect":
            await asyncio.sleep(_POLL_S)
        self._gone = True
        if self._task is not None:
            self._task.cancel()
