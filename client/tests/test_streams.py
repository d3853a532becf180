from __future__ import annotations

import pytest

from fitserve.streams import Message, messages

STREAM = (
    ": a comment\r\nretry: 250\r\n\r\nid: 1\r\nevent: metric\r\ndata: {\r\ndata: }\r\n\r\n"
    "data:é\r\n\r\nid: 2\r\ndata: never finished"
).encode()
READ = [
    Message("", "", None, None),
    Message("message", "", None, 250),
    Message("metric", "{\n}", "1", None),
    Message("message", "é", "1", None),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_messages_are_the_same_however_the_bytes_are_cut(size, end):
    body = STREAM.replace(b"\r\n", end)
    assert list(messages(body[at : at + size] for at in range(0, len(body), size))) == READ
