"""How much memory a child may take on this host."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def room_bytes(limit_bytes: int | None) -> int:
    """What this process may take beyond what it holds now: of its limit, its container's, or the host's."""
    bounds = [psutil.virtual_memory().total]
    if limit_bytes is not None:
        bounds.append(limit_bytes)
    with contextlib.suppress(OSError, ValueError):  # no such control group, or "max"
        bounds.append(int(_CGROUP_LIMIT.read_text()))
    return max(0, min(bounds) - int(psutil.Process().memory_info().rss))


def left_bytes(limit_bytes: int | None) -> int:
    """What processes beside this one may take: of what it may take itself, and of what the host has left."""
    return min(room_bytes(limit_bytes), psutil.virtual_memory().available)
