"""Server-sent events, parsed as the HTML standard defines it (section 9.2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Only these end a line; str.splitlines would also cut at U+2028 and others that JSON text may hold.
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Message:
    """One message of a stream; `id` is the last one seen. A ping or a bare `retry` has no data."""

    event: str
    data: str
    id: str | None
    retry_ms: int | None


def messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Read messages from the pieces of a body, comments (pings) as messages without data.

    A last message that is not finished by an empty line is dropped, as the standard wants.
    """
    event, data, last_id, retry_ms = "", list[str](), None, None
    for line in _lines(chunks):
        if not line:
            if data or retry_ms is not None:
                yield Message(event or "message", "\n".join(data), last_id, retry_ms)
            event, data, retry_ms = "", [], None
            continue
        if line.startswith(":"):
            yield Message("", "", last_id, None)
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
        elif field == "retry" and value.isdecimal():
            retry_ms = int(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    held = b""
    for chunk in chunks:
        held += chunk
        # A carriage return at the very end may be half of a line end.
        ready, kept = (held[:-1], b"\r") if held.endswith(b"\r") else (held, b"")
        *lines, rest = _LINE_END.split(ready)
        held = rest + kept
        yield from (line.decode("utf-8", "replace") for line in lines)
