"""Data by URI: which places the operator allows, and how a URI is shown to people.

Of a job's `data.uri`, `dataset://<id or name>` names what is here already; `file`, `http`, `https`, `s3` and
`gs` name what a worker fetches, where FITSERVE_DATA_ROOTS or FITSERVE_DATA_HOSTS allow the place.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

FILE, WEB, CLOUD = "file", ("http", "https"), ("s3", "gs")
PORTS = {"http": 80, "https": 443}
HIDDEN = "***"
MAIN, FURTHER = "data", ("validation", "test")
"""How a job uses its data sets: the main one, and those beside it, each with a `uri` of its own."""
ID_PREFIX = "ds_"

Network = IPv4Network | IPv6Network

_HOST = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?(=(?P<range>[0-9A-Fa-f:./]+))?"
)
_BUCKET = re.compile(r"(s3|gs)://[A-Za-z0-9._-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# What programs read in different ways: a host is allowed as we read it.
_AMBIGUOUS = re.compile(r"[\s\\]")


class UriError(ValueError):
    """The URI can't be read, or names a place that the operator doesn't allow; the text says which are."""


@dataclass(frozen=True)
class Host:
    """A host that may be asked: without a port at the usual ones; `network` opens addresses inside a site."""

    name: str
    port: int | None
    network: Network | None

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `host`, `host:port` or `host:port=addresses`.

        Raises:
            ValueError: it is none of them.
        """
        match = _HOST.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no host, host:port or host:port=addresses")
        name = match["host"].strip("[]").lower().rstrip(".")
        literal = _network(name)
        network = ip_network(match["range"]) if match["range"] else literal
        return cls(name, int(match["port"]) if match["port"] else None, network)

    def serves(self, parts: SplitResult) -> bool:
        """Whether this is the host and the port of the URI."""
        name = (parts.hostname or "").rstrip(".")
        return name == self.name and port_of(parts) == (self.port or PORTS[parts.scheme])


@dataclass(frozen=True)
class Allowed:
    """The places that the operator opened; none by default."""

    roots: tuple[Path, ...] = ()
    hosts: tuple[Host, ...] = ()
    buckets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, roots: str, hosts: str) -> Self:
        """Read FITSERVE_DATA_ROOTS and FITSERVE_DATA_HOSTS.

        Raises:
            ValueError: a folder isn't absolute, or an entry is neither host nor bucket.
        """
        folders = tuple(Path(part) for part in _parts(roots))
        for folder in folders:
            if not folder.is_absolute():
                raise ValueError(f"a folder must be absolute. Received: {str(folder)!r}")
        places = list(_parts(hosts))
        buckets = frozenset(place for place in places if _BUCKET.fullmatch(place))
        return cls(folders, tuple(Host.of(place) for place in places if place not in buckets), buckets)

    def __bool__(self) -> bool:
        return bool(self.roots or self.hosts or self.buckets)

    def check(self, uri: str) -> None:
        """See that the URI names a place that is allowed.

        Raises:
            UriError: it doesn't.
        """
        parts = parsed(uri)
        if parts.scheme == FILE:
            self.path_of(uri)
        elif parts.scheme in CLOUD:
            bucket = f"{parts.scheme}://{parts.netloc}"
            if bucket not in self.buckets:
                raise UriError(self._not_allowed(bucket, "bucket", sorted(self.buckets)))
        else:
            self.networks_of(uri)

    def path_of(self, uri: str) -> Path:
        """Return where a file URI leads, all links followed.

        Raises:
            UriError: not below a folder that is allowed.
        """
        path = Path(os.path.realpath(unquote(parsed(uri).path)))
        if not is_below(path, self.roots):
            places = [str(root) for root in self.roots]
            raise UriError(
                f"{redacted(uri)} is not in a folder that is allowed here (FITSERVE_DATA_ROOTS: "
                f"{', '.join(places) or 'none'}); {_INSTEAD}"
            )
        return path

    def networks_of(self, uri: str) -> tuple[Network, ...]:
        """Return the addresses inside a site that the host of an http or https URI may have.

        Raises:
            UriError: the host isn't listed.
        """
        parts = parsed(uri)
        listed = [host for host in self.hosts if host.serves(parts)]
        if not listed:
            known = [f"{host.name}:{host.port}" if host.port else host.name for host in self.hosts]
            raise UriError(self._not_allowed(f"{parts.hostname}:{port_of(parts)}", "host", known))
        return tuple(host.network for host in listed if host.network is not None)

    def _not_allowed(self, place: str, what: str, known: Iterable[str]) -> str:
        return (
            f"{place} is no {what} that is allowed here (FITSERVE_DATA_HOSTS: "
            f"{', '.join(known) or 'none'}); {_INSTEAD}"
        )


NOTHING = Allowed()
_INSTEAD = "ask the operator to allow it, or upload the file and name it as dataset://<id or name>"


def parsed(uri: str) -> SplitResult:
    """Take a URI apart.

    Raises:
        UriError: it has no scheme of ours, or is not what its scheme wants.
    """
    shown = redacted(uri)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise UriError(f"{shown!r} is no URI: {error}") from error
    if parts.scheme not in (FILE, *WEB, *CLOUD):
        raise UriError(
            "data are named as dataset://<id or name>, or by a file, http, https, s3 or gs URI. "
            f"Received: {shown!r}"
        )
    if _UNPRINTABLE.search(unquote(uri)) or (parts.scheme != FILE and _AMBIGUOUS.search(uri)):
        raise UriError(f"{shown!r} holds characters that no URI has")
    if parts.fragment:
        raise UriError(f"{shown!r} has a #; write %23 if it is a part of the name")
    if parts.scheme == FILE:
        fits = parts.netloc in ("", "localhost") and parts.path.startswith("/") and not parts.query
        wanted = "file:///<absolute path>"
    elif parts.scheme in CLOUD:
        fits = (
            bool(_BUCKET.fullmatch(f"{parts.scheme}://{parts.netloc}"))
            and len(parts.path) > 1
            and not parts.query
        )
        wanted = f"{parts.scheme}://<bucket>/<key>"
    else:
        fits = bool(parts.hostname) and port != 0
        wanted = f"{parts.scheme}://<host>/<path>"
    if not fits:
        raise UriError(f"write {wanted}. Received: {shown!r}")
    return parts


def place_of_uri(use: str) -> str:
    """The pointer in a spec to the URI of a data set, by its use."""
    return "/data/uri" if use == MAIN else f"/data/{use}/uri"


def port_of(parts: SplitResult) -> int:
    """The port of an http or https URI."""
    return parts.port or PORTS[parts.scheme]


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a path without links lies in one of the folders, or is one."""
    return any(path.is_relative_to(os.path.realpath(root)) for root in roots)


def redacted(uri: str) -> str:
    """The URI without what may be secret in it: user and password, and every value of its query."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return re.sub(r"\S+@", f"{HIDDEN}@", uri)
    rest, _, query = rest.partition("#")[0].partition("?")
    place, slash, path = rest.partition("/")
    place = f"{HIDDEN}@{place.rpartition('@')[2]}" if "@" in place else place
    names = [
        f"{each.partition('=')[0]}={HIDDEN}" if "=" in each else HIDDEN for each in query.split("&") if each
    ]
    return f"{scheme}://{place}{slash}{path}" + (f"?{'&'.join(names)}" if names else "")


def id_of(uri: str) -> str:
    """The id of the unnamed data set that this URI makes, so that named twice it is one."""
    return ID_PREFIX + hashlib.sha256(f"uri {uri}".encode("utf-8", "surrogatepass")).hexdigest()[:20]


def filename_of(uri: str) -> str:
    """The last part of the path, as far as it can be stored and shown."""
    return unquote(urlsplit(uri).path.rstrip("/").rpartition("/")[2])[-255:] or "data"


def _parts(text: str) -> Iterable[str]:
    return (part.strip() for part in text.split(",") if part.strip())


def _network(name: str) -> Network | None:
    try:
        return ip_network(name)
    except ValueError:
        return None
