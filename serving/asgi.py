"""The server as one ASGI application: HTTP by `Rest`, gRPC over HTTP/2 by `Rpc`.

A gRPC reply is a body and then trailers, which ASGI knows as `http.response.trailers`; a front that can't
send those serves HTTP alone.
"""

import logging
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from serving.dataplane import CLIENT
from serving.deadlines import Deadlines
from serving.disconnects import Disconnects
from serving.errors import Code, RequestError
from serving.methods import Methods
from serving.pages import Pages
from serving.rest import Reply, Rest, refusal
from serving.rpc import OK

_log = logging.getLogger(__name__)

# Any: ASGI's messages are untyped mappings by its specification.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# By lower-case names, as ASGI has them; of a name that comes twice, the last value.
_Headers = dict[bytes, bytes]

_TIMEOUT_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_MESSAGE_BYTES = 2**31 - 1
_PREFIX_BYTES = 5


class Application:
    """Answers both protocols."""

    def __init__(self, rest: Rest, grpc: Methods, pages: Pages, *, rest_timeout_s: float) -> None:
        self._rest = rest
        self._grpc_methods = grpc
        self._pages = pages
        self._rest_timeout_s = rest_timeout_s
        self._disconnects = Disconnects()
        self._deadlines = Deadlines()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI calls it."""
        if scope["type"] != "http":
            raise RuntimeError(f"HTTP only. Received: {scope['type']}")
        headers = dict(scope["headers"])
        body = await _body(receive)
        if body is None:
            return
        # A connection's address: who opens several has several shares.
        CLIENT.set(scope.get("client"))
        with self._disconnects.watch(receive):
            if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
                await self._http(scope, headers, body, send)
            elif self._grpc_methods.streams(scope["path"]):
                await self._grpc_stream(scope["path"], headers, body, send)
            else:
                await self._grpc(scope["path"], headers, body, send)

    async def _http(self, scope: Message, given: _Headers, body: bytes, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in given.items()}
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").split("?")[0]
        page = await self._pages.answer(scope["method"], path)
        if page is not None:
            reply, kind = page
        else:
            reply, kind = await self._rest_reply(scope["method"], path, headers, body), b"application/json"
        fields = [(b"content-type", kind), (b"content-length", b"%d" % len(reply.body))]
        fields += self._pages.headers(headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": fields})
        await send({"type": "http.response.body", "body": reply.body})

    async def _rest_reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        try:
            with self._deadlines.within(self._rest_timeout_s):
                return await self._rest.call(method, path, headers, body)
        except TimeoutError:
            late = RequestError(Code.DEADLINE_EXCEEDED, f"no answer within {self._rest_timeout_s:g} s")
            return refusal(late)

    async def _grpc_stream(self, path: str, headers: _Headers, body: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _GRPC, "trailers": True})
        trailers = _DONE
        try:
            message = _unframed(body, headers.get(b"grpc-encoding", b"identity"))
            with self._deadlines.within(_timeout_s(headers.get(b"grpc-timeout"))):
                async for reply in self._grpc_methods.stream(path, message):
                    await send({"type": "http.response.body", "body": _framed(reply), "more_body": True})
        except TimeoutError:
            trailers = [(b"grpc-status", b"%d" % Code.DEADLINE_EXCEEDED.number)]
        except RequestError as error:
            trailers = [(b"grpc-status", b"%d" % error.code.number)]
        await send({"type": "http.response.body", "body": b""})
        await send({"type": "http.response.trailers", "headers": trailers})

    async def _grpc(self, path: str, headers: _Headers, body: bytes, send: Send) -> None:
        reply, trailers = b"", _DONE
        try:
            message = _unframed(body, headers.get(b"grpc-encoding", b"identity"))
            with self._deadlines.within(_timeout_s(headers.get(b"grpc-timeout"))):
                reply = _framed(await self._grpc_methods.call(path, message))
        except TimeoutError:
            trailers = _failed(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        except RequestError as error:
            trailers = _failed(error.code, str(error))
        await send({"type": "http.response.start", "status": 200, "headers": _GRPC, "trailers": True})
        await send({"type": "http.response.body", "body": reply})
        await send({"type": "http.response.trailers", "headers": trailers})


_DONE = [(b"grpc-status", b"%d" % OK)]
_GRPC = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity,gzip")]
# All printable ASCII but the percent sign goes as it is (gRPC over HTTP/2, "Status-Message").
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _failed(code: Code, text: str) -> list[tuple[bytes, bytes]]:
    message = quote(text, safe=_UNQUOTED).encode()
    return [(b"grpc-status", b"%d" % code.number), *([(b"grpc-message", message)] if text else [])]


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client is gone."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else parts[0]


def _unframed(body: bytes, encoding: bytes) -> bytes:
    if len(body) < _PREFIX_BYTES or len(body) != _PREFIX_BYTES + int.from_bytes(body[1:_PREFIX_BYTES]):
        raise RequestError(Code.INTERNAL, "a unary call carries exactly one message")
    message = body[_PREFIX_BYTES:]
    if not body[0]:
        return message
    name = encoding.decode("latin-1")
    if name not in {"gzip", "deflate"}:
        raise RequestError(
            Code.UNIMPLEMENTED, f"grpc-encoding {name} is not supported; identity and gzip are"
        )
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unpacked = unzip.decompress(message, _MAX_MESSAGE_BYTES)
    except zlib.error as error:
        raise RequestError(Code.INTERNAL, f"{name} message doesn't unpack: {error}") from error
    if unzip.unconsumed_tail:
        raise RequestError(Code.RESOURCE_EXHAUSTED, "the unpacked message is larger than 2 GiB")
    return unpacked


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _timeout_s(header: bytes | None) -> float | None:
    if not header:
        return None
    try:
        return int(header[:-1]) * _TIMEOUT_UNITS[header[-1:]]
    except (ValueError, KeyError) as error:
        text = f"grpc-timeout {header.decode('latin-1')!r} is not a duration"
        raise RequestError(Code.INVALID_ARGUMENT, text) from error
