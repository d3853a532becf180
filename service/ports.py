"""Ports for servers that nobody told which to take."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 20_000, 32_767
"""Below the range from which Linux takes ports for outgoing connections: none of those comes in between."""


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now, chosen at random: two askers hardly get the same."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_LOWEST, _HIGHEST + 1), k=_HIGHEST - _LOWEST):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
    return found
