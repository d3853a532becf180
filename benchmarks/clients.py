"""Many HTTP clients at once, each on a connection of its own that it keeps open."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit


def post_for(
    seconds: float, *, clients: int, url: str, body: bytes, headers: Mapping[str, str], expect: int = 202
) -> list[float]:
    """Post the same body from `clients` threads for so long; the seconds that each answer took.

    Raises:
        RuntimeError: an answer had another status than expected.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    took: list[list[float]] = [[] for _ in range(clients)]
    wrong: list[str] = []
    start = threading.Barrier(clients)

    def work(mine: list[float]) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.connect()
        start.wait()
        until = time.monotonic() + seconds
        while (asked := time.monotonic()) < until and not wrong:
            connection.request(
                "POST", parts.path, body, {"Content-Type": "application/json", **dict(headers)}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != expect:
                wrong.append(f"{answer.status}: {text[:500]!r}")
            mine.append(time.monotonic() - asked)
        connection.close()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in took]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(wrong[0])
    return [each for mine in took for each in mine]
