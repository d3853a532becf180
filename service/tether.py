"""Become another program that ends when our parent does: `python tether.py PARENT_PID PROGRAM ARGS...`.

Linux tells a process of its parent's death by a signal of its choice (prctl(2), PR_SET_PDEATHSIG), which
survives exec. So even a `kill -9` of `fitserve up` leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to(parent: int, with_signal: signal.Signals) -> None:
    """Have the kernel send this process the signal when the thread that started it ends.

    SIGKILL ends even a process that stands still (SIGSTOP), and then nobody has to look for it.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent:  # it died before we were tied to it
        sys.exit(1)


def main() -> None:
    """Tie this process to its parent, then become the program."""
    tie_to(int(sys.argv[1]), signal.SIGTERM)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the point of this program


if __name__ == "__main__":
    main()
