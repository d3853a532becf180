"""Bringing data from elsewhere: over HTTP with the address pinned, from buckets through fsspec.

It runs in a child of a worker that does nothing else. The host was allowed when the request came; here its
name is resolved, once, and what it resolves to is held to the same list, so that no name leads inside.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import SplitResult, quote, unquote

from service.uris import CLOUD, Allowed, Network, parsed, port_of, redacted
from trainer.errors import DataUnreachableError

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 20
CONNECT_S = 10.0
SILENCE_S = 30.0
WAKE_S = 0.2
"""So often, while nothing comes, the clock is looked at."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server may answer otherwise in a while."""
NAT64 = ip_address("64:ff9b::"), 96

Address = IPv4Address | IPv6Address


class FetchRefusedError(DataUnreachableError):
    """There is no such data, or they may not be fetched from there: trying again is no use."""

    retryable: ClassVar[bool] = False
    remedy = "Correct the URI, or ask the operator to allow the place (FITSERVE_DATA_HOSTS)."


@dataclass(frozen=True)
class Bounds:
    """How much may be fetched, and for how long."""

    max_bytes: int
    seconds: float


def fetch(uri: str, allowed: Allowed, bounds: Bounds, go_on: Callable[[], None]) -> Iterator[bytes]:
    """Yield the content of an http, https, s3 or gs URI, piece by piece; `go_on` is called as they come.

    It is called several times a second while none comes, too.

    Raises:
        FetchRefusedError: not allowed, not there, redirected elsewhere, or too large.
        DataUnreachableError: no answer, or a broken one; another try may do better.
    """
    allowed.check(uri)
    parts = parsed(uri)
    pieces = _from_bucket(parts) if parts.scheme in CLOUD else _over_http(parts, allowed, bounds)
    yield from _bounded(uri, pieces, bounds, go_on)


def public(address: Address) -> bool:
    """Whether an address is out in the world, and nothing of this host, this site or this network."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) >> 32 == int(NAT64[0]) >> 32:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return public(inner)
    return address.is_global and not address.is_multicast


def _bounded(uri: str, pieces: Iterable[bytes], bounds: Bounds, go_on: Callable[[], None]) -> Iterator[bytes]:
    until, size = time.monotonic() + bounds.seconds, 0
    for piece in _read_aside(pieces):
        go_on()
        size += len(piece)
        if size > bounds.max_bytes:
            raise _too_large(uri, bounds)
        if time.monotonic() > until:
            raise DataUnreachableError(
                f"{redacted(uri)} was not fetched within {bounds.seconds:g} s (FITSERVE_FETCH_S)"
            )
        if piece:
            yield piece


def _read_aside(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces that a thread reads, and b"" while it waits: a server may let even its headers drip.

    What the thread still waits for when it is left ends with the process.
    """
    arrived: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=1)
    left = threading.Event()

    def read() -> None:
        end: Exception | None = None
        try:
            for piece in pieces:
                arrived.put(piece)
                if left.is_set():
                    return
        except Exception as error:  # whatever it is, it is raised where the pieces are taken
            end = error
        arrived.put(end)

    threading.Thread(target=read, name="fetch", daemon=True).start()
    try:
        while True:
            try:
                found = arrived.get(timeout=WAKE_S)
            except queue.Empty:
                yield b""
                continue
            if found is None:
                return
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        left.set()
        with contextlib.suppress(queue.Empty):  # the thread may wait for room
            arrived.get_nowait()


def _over_http(parts: SplitResult, allowed: Allowed, bounds: Bounds) -> Iterator[bytes]:
    import httpx

    uri = parts.geturl()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the URI with its secrets
    networks = allowed.networks_of(uri)
    errors = []
    # No proxy and no cookie of the environment: the request goes where the address says.
    with httpx.Client(
        trust_env=False,
        follow_redirects=False,
        verify=httpx.create_ssl_context(),
        timeout=httpx.Timeout(min(SILENCE_S, bounds.seconds), connect=CONNECT_S),
    ) as client:
        for address in _addresses(parts, networks):
            try:
                yield from _answer(client, parts, address, bounds)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                errors.append(f"{address}: {error or type(error).__name__}")
            except httpx.HTTPError as error:
                raise DataUnreachableError(
                    f"{redacted(uri)} broke off: {error or type(error).__name__}"
                ) from error
            else:
                return
    raise DataUnreachableError(f"{parts.hostname} can't be reached: {'; '.join(errors)}")


def _answer(client: httpx.Client, parts: SplitResult, address: Address, bounds: Bounds) -> Iterator[bytes]:
    import httpx

    uri = parts.geturl()
    where = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?") if parts.query else ""
    hostname = (parts.hostname or "").rstrip(".")
    name = f"[{hostname}]" if ":" in hostname else hostname
    login = (
        httpx.BasicAuth(unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    )
    with client.stream(
        "GET",
        f"{parts.scheme}://{where}:{port_of(parts)}{path}{query}",
        headers={
            "Host": name if parts.port is None else f"{name}:{parts.port}",
            "Accept-Encoding": "identity",
            "User-Agent": "fitserve",
        },
        auth=login,
        # The certificate must be that of the name, though the address is what we connect to.
        extensions={"sni_hostname": hostname},
    ) as answer:
        _check(answer, uri, bounds)
        yield from answer.iter_raw()  # as it comes: gathered into chunks, a drip would hold us for hours


def _check(answer: httpx.Response, uri: str, bounds: Bounds) -> None:
    shown, status = redacted(uri), answer.status_code
    if answer.is_redirect:
        where = redacted(answer.headers.get("Location", "nowhere"))
        raise FetchRefusedError(
            f"{shown} leads to {where}, and redirects are not followed",
            remedy="Name the place itself, where the operator allows it.",
        )
    if status in PASSING:
        raise DataUnreachableError(f"{shown} answers {status} {answer.reason_phrase}")
    if status != 200:
        raise FetchRefusedError(f"{shown} answers {status} {answer.reason_phrase}")
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise FetchRefusedError(f"{shown} comes encoded as {encoding}, which it was asked not to")
    told = answer.headers.get("Content-Length", "")
    if told.isdecimal() and int(told) > bounds.max_bytes:
        raise _too_large(uri, bounds)


def _addresses(parts: SplitResult, networks: Iterable[Network]) -> list[Address]:
    """Resolve the name, once; every address must be one that may be asked."""
    hostname = parts.hostname or ""
    try:
        found = socket.getaddrinfo(hostname, port_of(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataUnreachableError(f"{hostname} can't be resolved: {error}") from error
    addresses = list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))
    for address in addresses:
        if not public(address) and not any(address in network for network in networks):
            raise FetchRefusedError(
                f"{hostname} is {address}, which is inside this network",
                remedy="The operator may list the host with its addresses: "
                f"FITSERVE_DATA_HOSTS={hostname}={address}.",
            )
    return addresses


def _from_bucket(parts: SplitResult) -> Iterator[bytes]:
    """Read an object; endpoint and credentials are those of the environment."""
    import fsspec

    uri = f"{parts.scheme}://{parts.netloc}{parts.path}"
    try:
        # A file system of our own and no cached one: asyncio's threads don't outlive a child in order.
        system: Any = fsspec.filesystem(parts.scheme, skip_instance_cache=True, use_listings_cache=False)
        # Taken as the key's own name: nothing in it is expanded, and in a URI it is written with percents.
        with system.open(unquote(uri), "rb", block_size=8 * CHUNK, cache_type="readahead") as file:
            while piece := file.read(CHUNK):
                yield piece
    except ImportError as error:
        raise FetchRefusedError(
            f"{parts.scheme} needs what this worker lacks: {error}",
            remedy='Install the extra: pip install "fitserve-server[cloud]".',
        ) from error
    except FileNotFoundError as error:
        raise FetchRefusedError(f"there is no {uri}") from error
    except PermissionError as error:
        raise FetchRefusedError(f"{uri} may not be read with this worker's credentials") from error
    except DataUnreachableError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise DataUnreachableError(f"{uri} can't be read: {type(error).__name__}: {error}") from error


def _too_large(uri: str, bounds: Bounds) -> FetchRefusedError:
    return FetchRefusedError(
        f"{redacted(uri)} is larger than {bounds.max_bytes} bytes",
        remedy="The operator may raise FITSERVE_MAX_UPLOAD_BYTES.",
    )
