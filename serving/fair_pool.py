"""Threads for model calls that take long, shared evenly by the clients that wait for one."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(eq=False, slots=True)
class _Call:
    # Any: what the call returns is the caller's own matter.
    answer: asyncio.Future[Any]
    work: Callable[[], Any]
    hold: Callable[[], AbstractContextManager[object]]


class FairPool:
    """Runs calls on threads, the next one from each waiting client in turn; one event loop uses it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._waiting: dict[Hashable, deque[_Call]] = {}
        self._running = 0

    def submit(
        self, client: Hashable, work: Callable[[], Any], hold: Callable[[], AbstractContextManager[object]]
    ) -> asyncio.Future[Any]:
        """Return the future result of `work`; `hold()` is entered while it runs.

        A future that is cancelled while it waits gives its place back. One whose work runs can't be stopped:
        it keeps its thread and what it holds until the work ends.
        """
        call = _Call(asyncio.get_running_loop().create_future(), work, hold)
        self._waiting.setdefault(client, deque()).append(call)
        self._advance()
        return call.answer

    def _advance(self) -> None:
        while self._waiting and self._running < self._threads:
            client = next(iter(self._waiting))
            calls = self._waiting.pop(client)
            call = calls.popleft()
            if calls:
                # Back to the end: every other client comes first.
                self._waiting[client] = calls
            if call.answer.done():
                continue
            self._running += 1
            held = call.hold()
            held.__enter__()
            running = asyncio.get_running_loop().run_in_executor(self._pool, call.work)
            running.add_done_callback(partial(self._end, call, held))

    def _end(self, call: _Call, held: AbstractContextManager[object], done: asyncio.Future[Any]) -> None:
        self._running -= 1
        held.__exit__(None, None, None)
        error = done.exception()
        if not call.answer.done():
            if error is None:
                call.answer.set_result(done.result())
            else:
                call.answer.set_exception(error)
        self._advance()
