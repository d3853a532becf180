"""Ends the work for a client that has gone; ASGI tells that only to whoever asks for a further message."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

# Calls shorter than this aren't watched: for most of them it would cost more than it saves.
WATCHED_AFTER_S = 0.05
_POLL_S = 0.05


class Watched:
    """Cancels the task inside the block once its client is gone; the block then ends without an error.

    `receive` is ASGI's, after the whole body was read. Fronts that answer at once are asked every 50 ms.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]]) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> "Watched":
        self._task = asyncio.current_task()
        self._later = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._later.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if not (self._gone and kind is asyncio.CancelledError and self._task is not None):
            return False
        return self._task.uncancel() == 0

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        # Shielded: the front answers in any case once the request has ended, and fails if nobody may be told.
        while (await asyncio.shield(self._receive()))["type"] != "http.disconnect":
            await asyncio.sleep(_POLL_S)
        self._gone = True
        if self._task is not None:
            self._task.cancel()
