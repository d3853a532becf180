"""The life of a child under its supervisor: beat, store, obey, watch, until it has ended or must end."""

from __future__ import annotations

import errno
import json
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import EventKind
from service.kind import Site
from service.leftovers import Line, events_of
from service.protocol import OUTCOME, boot_clock
from service.records import Beat, Claim
from service.vitals import Vitals

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

BEATS_PER_LEASE = 6
CHILD_SHARE_OF_LEASE = 2 / 3
"""The child leaves by itself at this share of its lease, well before another worker may take the job."""
CANCEL_GRACE_S = 1.0
"""A cancelled child has nothing to save, so it isn't waited for as long as one that is told to stop."""
LOOK_EVERY_S = 0.5

Inbox = queue.Queue[bytes | None]
"""Lines of the child, b"" when it has closed its end, None for a nudge."""


class End(StrEnum):
    """Why the supervisor attends no longer."""

    ENDED = "ended"
    """The child said how it ended, or closed its end without a word."""
    FENCED = "fenced"
    """The lease is lost: the job is somebody else's by now."""
    OUT_OF_MEMORY = "out_of_memory"
    """It held more memory than its job may."""
    FROZEN = "frozen"
    """It, or a process of its own, stood still for a whole lease."""


@dataclass(frozen=True)
class Departure:
    """How a child's life under its supervisor ended."""

    end: End
    outcome: Line | None = None
    """What the child said last: `ending`, and `data` or `error`; None if it never said."""
    memory_bytes: int = 0
    """At the last look, for what is told of `OUT_OF_MEMORY`."""
    peak_memory_bytes: int = 0
    """The most that was seen, its own children included."""
    unstored: bool = False
    """Whether something that it told may be in no record yet."""
    began: bool = True
    """Whether it told anything."""
    unheard: bool = False
    """Whether a heartbeat came later than it could wait, or it was seen to stand still."""


class Attendance:
    """One child of one claim. `attend` runs in the slot's thread, `stop` and `nudge` in any."""

    def __init__(
        self, claim: Claim, site: Site, logger: FilteringBoundLogger, *, on_steady: Callable[[], object]
    ) -> None:
        """Keep what is needed; `on_steady` is called once the child's work is under way."""
        self._claim = claim
        self._site = site
        self._log = logger
        self._on_steady = on_steady
        self._steady = False
        self._inbox: Inbox = queue.Queue()
        self._leaving = threading.Event()
        self.lease_until = claim.since + site.settings.lease_s
        self._leave_at = claim.since + site.settings.lease_s * CHILD_SHARE_OF_LEASE
        self._began = False
        self._unheard = False
        self._overtime_at = _overtime_at(claim)
        self._kill_at: float | None = None
        self.cancelled = False  # the child was told to cancel
        self.overtime = False  # the child was told to stop since its job ran too long

    @property
    def leaving(self) -> bool:
        """Whether the worker leaves."""
        return self._leaving.is_set()

    @property
    def hurries(self) -> bool:
        """Whether the child was told to end, and is killed if it doesn't."""
        return self._kill_at is not None

    def stop(self) -> None:
        """The worker is leaving: have the child checkpoint."""
        self._leaving.set()
        self.nudge()

    def nudge(self) -> None:
        """Look at the records now: somebody may have cancelled."""
        self._inbox.put(None)

    def listen(self, child: Child) -> None:
        """Take in what the child says from now on.

        Raises:
            OSError: the host can start no thread; the child is ended.
        """
        try:
            child.read_into(self._inbox)
        except RuntimeError as error:  # as Python tells it that RLIMIT_NPROC or a cgroup's limit is reached
            child.discard()
            raise OSError(errno.EAGAIN, str(error)) from error

    def attend(self, child: Child) -> Departure:
        """Stay until the child has ended, or must end; whoever called kills what is left of it.

        Raises nothing for a lost database: the lease decides how long that may last.
        """
        vitals = Vitals(child.pid)
        limit_bytes = self._claim.job.memory_bytes
        next_beat = boot_clock() + self._beat_every_s
        next_look = boot_clock()
        outcome: Line | None = None
        unstored: list[Line] = []
        closed = was_gone = fenced = False
        while True:
            lines, nudged, ended = self._receive(min(next_beat, next_look) - boot_clock())
            closed = closed or ended
            if self.leaving and self._kill_at is None:  # whether or not the database answers
                child.say(stop=True)
                self._kill_within(self._site.settings.grace_s)
            self._began = self._began or bool(lines)
            unstored += [line for line in lines if line["event"] != OUTCOME]
            self._notice_work(lines)
            outcome = next((line["data"] for line in lines if line["event"] == OUTCOME), outcome)
            try:
                if unstored:
                    fenced = not self._site.records.claims.append(self._claim, events_of(unstored))
                    unstored = []
                if nudged or boot_clock() >= next_beat:
                    next_beat = boot_clock() + self._beat_every_s
                    fenced = not self._beat(child) or fenced
            except DatabaseUnavailableError as error:
                next_beat = boot_clock() + min(0.5, self._beat_every_s)
                self._log.warning("database_unavailable", error=str(error))
            if boot_clock() >= next_look:
                next_look = boot_clock() + LOOK_EVERY_S
                # When it has ended, a process of its own may still hold the events open; what it told is in.
                closed = closed or was_gone
                was_gone = not child.alive
                vitals.look()
                self._mind_the_time(child)

            if fenced or boot_clock() >= self.lease_until:
                return self._departure(End.FENCED, vitals, unstored)
            # Nothing comes after the outcome; waiting for TensorFlow to unload would cost a second.
            if (closed or outcome is not None) and not unstored:
                return self._departure(End.ENDED, vitals, unstored, outcome)
            if limit_bytes is not None and vitals.memory_bytes > limit_bytes:
                return self._departure(End.OUT_OF_MEMORY, vitals, unstored)
            if vitals.stopped_s > self._site.settings.lease_s:
                return self._departure(End.FROZEN, vitals, unstored)
            if self._kill_at is not None and boot_clock() >= self._kill_at:
                self._log.warning("child_killed", reason="it did not leave within its grace")
                child.kill()

    def _departure(
        self, end: End, vitals: Vitals, unstored: Sequence[Line], outcome: Line | None = None
    ) -> Departure:
        return Departure(
            end,
            outcome,
            memory_bytes=vitals.memory_bytes,
            peak_memory_bytes=vitals.peak_memory_bytes,
            unstored=bool(unstored) or not self._inbox.empty(),
            began=self._began,
            unheard=self._unheard or boot_clock() >= self._leave_at or vitals.stood_still,
        )

    @property
    def _beat_every_s(self) -> float:
        return self._site.settings.lease_s / BEATS_PER_LEASE

    def _receive(self, timeout_s: float) -> tuple[list[Line], bool, bool]:
        """All lines that wait, whether we were nudged, and whether the child closed its end."""
        lines: list[Line] = []
        nudged = False
        try:
            item = self._inbox.get(timeout=max(0.01, min(timeout_s, LOOK_EVERY_S)))
            while True:
                if item is None:
                    nudged = True
                elif item == b"":
                    return lines, nudged, True
                else:
                    lines.append(json.loads(item))
                item = self._inbox.get_nowait()
        except queue.Empty:
            return lines, nudged, False

    def _notice_work(self, lines: Sequence[Line]) -> None:
        """A first step is done: whatever else this host prepares takes nothing from the job's start."""
        if not self._steady and any(line["event"] == EventKind.PROGRESS for line in lines):
            self._steady = True
            self._on_steady()

    def _beat(self, child: Child) -> bool:
        """Extend the lease, and tell the child how long it may live and what is wanted; False when fenced."""
        settings = self._site.settings
        asked_at = boot_clock()
        beat: Beat | None = self._site.records.claims.beat(self._claim, settings.lease_s)
        self.lease_until = asked_at + settings.lease_s
        if beat is None:
            return False
        self._unheard = self._unheard or boot_clock() >= self._leave_at
        self._leave_at = asked_at + settings.lease_s * CHILD_SHARE_OF_LEASE
        child.say(leave_at=self._leave_at)
        if beat.cancel_requested and not self.cancelled:
            self.cancelled = True
            child.say(cancel=True)
            self._kill_within(min(CANCEL_GRACE_S, settings.grace_s))
        return True

    def _mind_the_time(self, child: Child) -> None:
        if self._overtime_at is not None and boot_clock() >= self._overtime_at and not self.overtime:
            self.overtime = True
            child.say(stop=True)
            self._kill_within(self._site.settings.grace_s)

    def _kill_within(self, grace_s: float) -> None:
        at = boot_clock() + grace_s
        self._kill_at = at if self._kill_at is None else min(self._kill_at, at)


def _overtime_at(claim: Claim) -> float | None:
    limit_s = claim.job.max_runtime_s
    return None if limit_s is None else claim.since + limit_s - claim.job.ran_s
