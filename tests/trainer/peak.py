"""How much memory some work takes at its highest."""

import re
from pathlib import Path


def grew_bytes(work):
    """Return how far resident memory rose while the work was done, and what that gave.

    Only for what comes in arrays of 32 MiB or more: smaller ones may find room that others gave back.
    """
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back: proc(5)
    given = work()
    return _resident("VmHWM") - before, given


def _resident(which):
    return 1024 * int(re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
