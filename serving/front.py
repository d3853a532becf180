"""What speaks HTTP/2 to the world: the contract of a front, and which one runs here.

A front gets the flags, serves until it is told to stop (SIGTERM, SIGINT), answers what is in flight, and
returns the process's exit status. Everything behind it is the same `Application` and `Rpc`.
"""

import importlib
import socket
from typing import Protocol, cast

from serving.errors import FlagError, ServingError
from serving.flags import Flags

# In the order of preference; each is a module of `serving.fronts`.
FRONTS = ("envoy", "grpcio")

# Requests in flight get this long to end once the process is asked to leave.
DRAIN_S = 6.0


class Front(Protocol):
    """A module of `serving.fronts`."""

    def missing(self) -> str | None:
        """Return what keeps this front from running on this machine, or None."""

    def run(self, flags: Flags) -> int:
        """Serve until asked to stop; return the exit status."""


def runnable() -> list[str]:
    """Return the names of the fronts that can run on this machine, the preferred one first."""
    return [name for name in FRONTS if _front(name).missing() is None]


def choose(name: str) -> tuple[str, Front]:
    """Return the front asked for, or for `auto` the first one that can run.

    Raises:
        FlagError: the front asked for can't run here; the text says why.
    """
    reasons = []
    for each in FRONTS if name == "auto" else (name,):
        front = _front(each)
        reason = front.missing()
        if reason is None:
            return each, front
        reasons.append(f"{each}: {reason}")
    raise FlagError(f"--front={name} can't run here: {'; '.join(reasons)}")


def check_ports(flags: Flags) -> None:
    """Fail early when a port is taken, rather than after minutes of loading models.

    Raises:
        ServingError: the host isn't ours, or somebody listens on a port of it.
    """
    family = socket.AF_INET6 if ":" in flags.host else socket.AF_INET
    for port in (flags.port, flags.rest_api_port):
        try:
            socket.create_server((flags.host, port), family=family).close()
        except OSError as error:
            raise ServingError(f"can't listen on {flags.host}:{port}: {error.strerror}") from error


def _front(name: str) -> Front:
    return cast("Front", importlib.import_module(f"serving.fronts.{name}"))
