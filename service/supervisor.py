"""One attempt, from claim to letting go: spawn the child, keep the lease, store what it tells, end it.

The supervisor is the only one that writes records for the attempt. Whatever goes wrong, its last act is to
kill the child's whole process group, so no attempt leaves anything running.
"""

from __future__ import annotations

import json
import queue
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from service.attempt import LEFT_ALONE, error_of
from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import EventKind, Phase, Status
from service.kind import Site, WorkKind, work_of
from service.protocol import OUTCOME, Ending, Order, boot_clock
from service.records import Beat, ChildEvent, Claim
from service.slots import Slot

BEATS_PER_LEASE = 6
CHILD_SHARE_OF_LEASE = 2 / 3
"""The child leaves by itself at this share of its lease, well before another worker may take the job."""

log = structlog.get_logger(__name__)

Line = Mapping[str, Any]


class Supervisor:
    """Runs one claimed job in a slot of this worker."""

    def __init__(self, claim: Claim, slot: Slot, site: Site) -> None:
        self._claim = claim
        self._slot = slot
        self._site = site
        self._work: WorkKind = work_of(claim.job.kind)
        self._inbox: queue.Queue[bytes | None] = queue.Queue()  # lines of the child; None is a nudge
        self._leaving = threading.Event()
        self._cancelled = False  # the child was told to cancel
        self._fenced = False  # the job is somebody else's by now
        self._folder = site.settings.jobs_folder / claim.job.id
        self._log = log.bind(job_id=claim.job.id, attempt=claim.job.attempt, slot=slot.name)

    def stop(self) -> None:
        """The worker is leaving: have the child checkpoint, and put the job back."""
        self._leaving.set()
        self.nudge()

    def nudge(self) -> None:
        """Look at the records now: somebody may have cancelled."""
        self._inbox.put(None)

    def run(self) -> None:
        """Work on the job until it ends, goes back to the queue, or is somebody else's."""
        self._log.info("attempt_started", kind=self._claim.job.kind.value)
        try:
            self._store_leftovers()
            if self._work.resume(self._claim, self._site):
                self._log.info("attempt_ended", ending="published_before")
                return
            order = self._order()
            # A worker that was frozen since its claim may have lost the job: two attempts must never train.
            if boot_clock() >= order.leave_at or not self._site.records.claims.holds(self._claim):
                self._log.warning("attempt_fenced")
                return
            child = Child.spawn(order, self._slot, self._attempt_folder)
        except DatabaseUnavailableError as error:
            self._log.warning("attempt_abandoned", reason=str(error))
            return
        except Exception as error:
            self._log.exception("attempt_not_started")
            self._settle_failure({**error_of(error), "retryable": True})
            return
        child.read_into(self._inbox)
        try:
            outcome = self._attend(child)
        except Exception as error:
            self._log.exception("attempt_not_attended")
            outcome = {"ending": Ending.FAILED.value, "error": {**error_of(error), "retryable": True}}
        finally:
            code = child.kill()
        self._conclude(outcome, left_alone=code in (LEFT_ALONE, -signal.SIGALRM))

    # The life of the child.

    def _attend(self, child: Child) -> Line | None:
        """Beat, store and obey until the child has ended; its outcome, or None if it gave none.

        Raises nothing for a lost database: the lease decides how long that may last.
        """
        settings = self._site.settings
        interval = settings.lease_s / BEATS_PER_LEASE
        lease_until = self._claim.since + settings.lease_s
        next_beat = boot_clock() + interval
        kill_at: float | None = None
        outcome: Line | None = None
        unstored: list[Line] = []
        ended = False
        while True:
            lines, nudged, closed = self._receive(next_beat - boot_clock())
            ended = ended or closed
            for line in lines:
                if line["event"] == OUTCOME:
                    outcome = line["data"]
                else:
                    unstored.append(line)
            try:
                if unstored:
                    self._fenced = not self._site.records.claims.append(self._claim, events_of(unstored))
                    unstored = []
                if nudged or boot_clock() >= next_beat:
                    asked_at = boot_clock()
                    beat = self._site.records.claims.beat(self._claim, settings.lease_s)
                    lease_until, next_beat = asked_at + settings.lease_s, asked_at + interval
                    self._fenced = self._fenced or beat is None
                    kill_at = self._pass_on(child, beat, asked_at, kill_at)
            except DatabaseUnavailableError as error:
                next_beat = boot_clock() + min(0.5, interval)
                self._log.warning("database_unavailable", error=str(error))
            if self._fenced or boot_clock() >= lease_until:
                self._fenced = True
                return None
            # Nothing comes after the outcome; waiting for TensorFlow to unload would cost a second.
            if (ended or outcome is not None) and not unstored:
                return outcome
            if kill_at is not None and boot_clock() >= kill_at:
                self._log.warning("child_killed", reason="it did not leave within its grace")
                child.kill()

    def _receive(self, timeout_s: float) -> tuple[list[Line], bool, bool]:
        """All lines that wait, whether we were nudged, and whether the child closed its end."""
        lines: list[Line] = []
        nudged = False
        try:
            item = self._inbox.get(timeout=max(0.01, min(timeout_s, 0.5)))
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

    def _pass_on(
        self, child: Child, beat: Beat | None, asked_at: float, kill_at: float | None
    ) -> float | None:
        """Tell the child how long it may live, and what its owner or the worker wants."""
        if beat is None:
            return kill_at
        child.say(leave_at=asked_at + self._site.settings.lease_s * CHILD_SHARE_OF_LEASE)
        if beat.cancel_requested and not self._cancelled:
            self._cancelled = True
            child.say(cancel=True)
            return boot_clock() + self._site.settings.grace_s
        if self._leaving.is_set() and kill_at is None:
            child.say(stop=True)
            return boot_clock() + self._site.settings.grace_s
        return kill_at

    # What becomes of the job.

    def _conclude(self, outcome: Line | None, *, left_alone: bool) -> None:
        if self._fenced:
            self._log.warning("attempt_fenced")
            return
        ending = Ending(outcome["ending"]) if outcome else None
        try:
            if outcome and "peak_memory_bytes" in outcome:
                used = {"device": self._slot.name, "peak_memory_bytes": outcome["peak_memory_bytes"]}
                self._site.records.claims.set_resources(self._claim, used)
            self._settle(ending, outcome or {}, left_alone=left_alone)
        except DatabaseUnavailableError as error:
            # The lease runs out, and the next attempt finds everything that this one has done.
            self._log.warning("attempt_abandoned", reason=str(error))
        except Exception as error:
            # The work itself is done: another attempt finds its checkpoint, or its version, and completes it.
            self._log.exception("attempt_not_completed")
            self._settle_failure({**error_of(error), "retryable": True})
        else:
            self._log.info("attempt_ended", ending=ending.value if ending else "died")

    def _settle(self, ending: Ending | None, outcome: Line, *, left_alone: bool) -> None:
        claims, job = self._site.records.claims, self._claim.job
        if self._cancelled or ending is Ending.CANCELLED:
            if claims.finish(self._claim, Status.CANCELLED):
                self._work.give_up(self._claim, self._site, None)
        elif ending is Ending.DONE:
            if claims.enter(self._claim, Phase.PUBLISHING):
                self._work.complete(self._claim, outcome["data"], self._site)
        elif ending is Ending.FAILED:
            self._settle_failure(outcome["error"])
        elif ending is Ending.STOPPED or self._leaving.is_set():
            claims.put_back(self._claim, reason="its worker is leaving")
        elif left_alone:
            claims.put_back(self._claim, reason="no heartbeat reached it")
        elif job.deaths + 1 >= job.max_attempts:
            self._finish_failed(self._poisoned())
        else:
            claims.put_back(self._claim, reason="its process died", died=True)

    def _settle_failure(self, error: Mapping[str, Any]) -> None:
        job = self._claim.job
        if error.get("retryable") and job.deaths + 1 < job.max_attempts:
            self._site.records.claims.put_back(self._claim, reason=error["detail"], died=True)
        else:
            self._finish_failed(error)

    def _finish_failed(self, error: Mapping[str, Any]) -> None:
        if self._site.records.claims.finish(self._claim, Status.FAILED, error=error):
            self._work.give_up(self._claim, self._site, error)

    def _poisoned(self) -> dict[str, Any]:
        tail = _last_lines(self._attempt_folder / "log", 5)
        return {
            "code": "poisoned",
            "detail": f"the training process died {self._claim.job.deaths + 1} times; its last words: {tail}",
            "retryable": False,
            "remedy": "look at the attempt's log; a plugin or an operation may crash natively",
        }

    # The folders.

    @property
    def _attempt_folder(self) -> Path:
        return self._folder / f"attempt-{self._claim.job.attempt}"

    def _order(self) -> Order:
        job = self._claim.job
        self._attempt_folder.mkdir(parents=True, exist_ok=True)
        work_folder = self._folder / "work"
        work_folder.mkdir(exist_ok=True)
        return Order(
            job_id=job.id,
            kind=job.kind.value,
            attempt=job.attempt,
            token=self._claim.token,
            spec=job.spec,
            name=job.name,
            seed=job.seed,
            spec_digest=job.spec_digest,
            dataset_digest=job.dataset_digest,
            attempt_folder=str(self._attempt_folder),
            work_folder=str(work_folder),
            leave_at=self._claim.since + self._site.settings.lease_s * CHILD_SHARE_OF_LEASE,
            details=self._work.prepare(job, self._site),
        )

    def _store_leftovers(self) -> None:
        """Store what children of earlier attempts told after their supervisor had died."""
        for attempt in range(1, self._claim.job.attempt):
            kept = self._folder / f"attempt-{attempt}" / "events.jsonl"
            if not kept.exists():
                continue
            events = events_of([line for line in _readable(kept) if line["event"] != OUTCOME])
            self._site.records.claims.append(self._claim, events, attempt=attempt)


def events_of(lines: Sequence[Line]) -> list[ChildEvent]:
    """The child's lines as events to store."""
    return [
        ChildEvent(n=line["n"], kind=EventKind(line["event"]), data=line["data"], at=line["at"])
        for line in lines
    ]


def _readable(kept: Path) -> list[Line]:
    """The lines of an events file up to the first that a kill or a power cut has spoilt."""
    lines: list[Line] = []
    for line in kept.read_bytes().splitlines(keepends=True):
        try:
            lines.append(json.loads(line))
        except ValueError:
            log.warning("events_file_damaged", file=str(kept), line=len(lines) + 1)
            break
    return lines


def _last_lines(path: Path, count: int) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "(none)"
    return " | ".join(lines[-count:]) or "(none)"
