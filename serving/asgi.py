"""The server as one ASGI application: HTTP by `Rest`, gRPC over HTTP/2 by `Rpc`.

A gRPC reply is a body and then trailers, which ASGI knows as `http.response.trailers`; a front that can't
send those serves HTTP alone.
"""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from serving.dataplane import CLIENT
from serving.disconnects import Watched
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

_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_MESSAGE_BYTES = 2**31 - 1
_PREFIX_BYTES = 5


class Application:
    """Answers both protocols."""

    def __init__(self, rest: Rest, grpc: Methods, pages: Pages, *, rest_timeout_s: float) -> None:
        self._rest = rest
        self._grpc_methods = grpc
        self._pages = pages
        self._rest_timeout_s = rest_timeout_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI calls it."""
        if scope["type"] != "http":
            raise RuntimeError(f"HTTP only. Received: {scope['type']}")
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        body = await _body(receive)
        if body is None:
            return
        # A connection's address: who opens several has several shares.
        CLIENT.set(str(scope.get("client")))
        with Watched(receive):
            if not headers.get("content-type", "").startswith("application/grpc"):
                await self._http(scope, headers, body, send)
            elif self._grpc_methods.streams(scope["path"]):
                await self._grpc_stream(scope["path"], headers, body, send)
            else:
                await self._grpc(scope["path"], headers, body, send)

    async def _http(self, scope: Message, headers: dict[str, str], body: bytes, send: Send) -> None:
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
            async with asyncio.timeout(self._rest_timeout_s):
                return await self._rest.call(method, path, headers, body)
        except TimeoutError:
            late = RequestError(Code.DEADLINE_EXCEEDED, f"no answer within {self._rest_timeout_s:g} s")
            return refusal(late)

    async def _grpc_stream(self, path: str, headers: dict[str, str], body: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _GRPC, "trailers": True})
        trailers = [(b"grpc-status", b"0")]
        try:
            message = _unframed(body, headers.get("grpc-encoding", "identity"))
            async with asyncio.timeout(_timeout_s(headers.get("grpc-timeout"))):
                async for reply in self._grpc_methods.stream(path, message):
                    await send({"type": "http.response.body", "body": _framed(reply), "more_body": True})
        except TimeoutError:
            trailers = [(b"grpc-status", b"%d" % Code.DEADLINE_EXCEEDED.number)]
        except RequestError as error:
            trailers = [(b"grpc-status", b"%d" % error.code.number)]
        await send({"type": "http.response.body", "body": b""})
        await send({"type": "http.response.trailers", "headers": trailers})

    async def _grpc(self, path: str, headers: dict[str, str], body: bytes, send: Send) -> None:
        number, text, reply = OK, "", b""
        try:
            message = _unframed(body, headers.get("grpc-encoding", "identity"))
            async with asyncio.timeout(_timeout_s(headers.get("grpc-timeout"))):
                reply = _framed(await self._grpc_methods.call(path, message))
        except TimeoutError:
            number, text = Code.DEADLINE_EXCEEDED.number, "Deadline Exceeded"
        except RequestError as error:
            number, text = error.code.number, str(error)
        trailers = [(b"grpc-status", b"%d" % number)]
        if text:
            trailers.append((b"grpc-message", quote(text, safe=_UNQUOTED).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": _GRPC, "trailers": True})
        await send({"type": "http.response.body", "body": reply})
        await send({"type": "http.response.trailers", "headers": trailers})


_GRPC = [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity,gzip")]
# All printable ASCII but the percent sign goes as it is (gRPC over HTTP/2, "Status-Message").
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


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


def _unframed(body: bytes, encoding: str) -> bytes:
    if len(body) < _PREFIX_BYTES or len(body) != _PREFIX_BYTES + int.from_bytes(body[1:_PREFIX_BYTES]):
        raise RequestError(Code.INTERNAL, "a unary call carries exactly one message")
    message = body[_PREFIX_BYTES:]
    if not body[0]:
        return message
    if encoding not in {"gzip", "deflate"}:
        raise RequestError(
            Code.UNIMPLEMENTED, f"grpc-encoding {encoding} is not supported; identity and gzip are"
        )
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unpacked = unzip.decompress(message, _MAX_MESSAGE_BYTES)
    except zlib.error as error:
        raise RequestError(Code.INTERNAL, f"{encoding} message doesn't unpack: {error}") from error
    if unzip.unconsumed_tail:
        raise RequestError(Code.RESOURCE_EXHAUSTED, "the unpacked message is larger than 2 GiB")
    return unpacked


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _timeout_s(header: str | None) -> float | None:
    if not header:
        return None
    try:
        return int(header[:-1]) * _TIMEOUT_UNITS[header[-1]]
    except (ValueError, KeyError) as error:
        raise RequestError(Code.INVALID_ARGUMENT, f"grpc-timeout {header!r} is not a duration") from error
