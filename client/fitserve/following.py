"""A job's events as they happen, each once, across broken streams."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from fitserve.errors import DeadlineExceededError, OverloadedError, ServerFailedError, UnavailableError
from fitserve.results import Event, Job
from fitserve.streams import messages
from fitserve.transport import Transport

SILENCE_S = 45.0  # three of the server's pings missed: the connection is dead
GIVE_UP_S = 60.0  # a server that is gone for longer is not waited for
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


def follow(http: Transport, path: str, after: int, timeout_s: float | None) -> Iterator[Event]:
    """Iterate over the events of the job at `path` from the one after `after` to the one that ends it.

    Raises:
        DeadlineExceededError: the job has not ended within timeout_s.
        UnavailableError: the server is gone for more than a minute.
    """
    deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    last, pause_s, gone_since = after, FIRST_PAUSE_S, None
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceededError(f"the job has not ended after {timeout_s:g} s; it goes on")
        try:
            silence_s = min(SILENCE_S, left_s)
            for event, retry_s in _stream(http, path, last, silence_s):
                gone_since, pause_s = None, retry_s or FIRST_PAUSE_S
                if event is not None and event.id > last:
                    last = event.id
                    yield event
                    if event.is_last:
                        return
                elif deadline - time.monotonic() < silence_s - 1.0:
                    break  # open it again with what is left of the time: pings would keep this read alive
            # A stream that ended in good order, but not with the last event: is there more to come?
            if Job.of(http.get(path)).is_finished and not _has_events(http, path, last):
                return
        except (UnavailableError, OverloadedError, DeadlineExceededError):
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > GIVE_UP_S:
                raise
        time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _stream(
    http: Transport, path: str, last: int, silence_s: float
) -> Iterator[tuple[Event | None, float | None]]:
    """Yield each event, None for a ping, and the pause the server wishes before the next connection."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last), "Cache-Control": "no-store"}
    with http.stream(f"{path}/events", read_timeout_s=silence_s, headers=headers) as answer:
        for message in messages(answer.iter_bytes()):
            retry_s = None if message.retry_ms is None else message.retry_ms / 1000
            if not message.data:
                yield None, retry_s
                continue
            try:
                yield Event(int(message.id or 0), message.event, json.loads(message.data)), retry_s
            except ValueError as error:
                raise ServerFailedError(f"{path} sent an event that can't be read: {error}") from error


def _has_events(http: Transport, path: str, after: int) -> bool:
    return bool(http.get(f"{path}/events", {"after": after, "limit": 1})["data"])
