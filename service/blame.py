"""Was it the job? How an attempt that ended in silence is told of, and whether it counts against its job."""

from __future__ import annotations

from dataclasses import dataclass

RETRY_FIRST_S = 5.0
RETRY_LONGEST_S = 300.0
"""After a failure that may pass (a full disk, data that can't be reached): doubled with each such attempt."""


@dataclass(frozen=True)
class Silence:
    """What is known of a child that ended without a word: killed, crashed, frozen, or by its own lease."""

    began: bool
    """It told its first line, which it does as soon as it has its order."""
    frozen: bool
    """It, or a process of its own, was seen to stand still (SIGSTOP) and killed for it."""
    left: bool
    """It ended itself since no heartbeat reached it, by its exit code."""
    unheard: bool
    """A heartbeat was late, or the child was seen to stand still for a while: it could not hear in time."""
    further: bool
    """It left a new checkpoint: the next attempt starts where none did."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of the attempt: the reason that its owner reads, and whether `max_attempts` counts it."""

    reason: str
    counted: bool = False
    wait_s: float = 0.0


def judge(silence: Silence) -> Verdict:
    """Only what a job does by itself, again and again and to no avail, counts against it."""
    if silence.frozen:
        return Verdict("its process was frozen")
    if not silence.began:
        # Nothing of the job was read yet: the host kills its processes, or its installation is broken.
        return Verdict("its process died before it began", wait_s=RETRY_FIRST_S)
    if silence.left and silence.unheard:
        return Verdict("no heartbeat reached it")
    if silence.further:
        return Verdict("its process died, after a new checkpoint")
    if silence.left:
        # Native code that keeps Python's lock keeps the process from hearing its heartbeats.
        return Verdict("its process let no heartbeat in for most of its lease", counted=True)
    return Verdict("its process died", counted=True)


def back_off_s(deaths: int) -> float:
    """How long the next attempt waits after a failure that may pass, by those counted before it."""
    return min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0**deaths)
