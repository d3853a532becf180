"""One attempt, from claim to letting go: hand the child its order, attend it, decide what becomes of the job.

The supervisor is the only one that writes records for the attempt. Whatever goes wrong, its last act is to
kill the child's whole process group, so no attempt leaves anything running.
"""

from __future__ import annotations

import json
import mmap
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from service.attempt import LEFT_ALONE, error_of
from service.attendance import CHILD_SHARE_OF_LEASE, Attendance, Departure, End, Line, events_of
from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import Phase, Status
from service.kind import Site, WorkKind, work_of
from service.protocol import Ending, Order, boot_clock
from service.records import Claim
from service.standby import Standby

RETRY_FIRST_S = 5.0
RETRY_LONGEST_S = 300.0
"""After a failure that may pass (a full disk, data that can't be reached): doubled with each such attempt."""

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs one claimed job in a slot of this worker."""

    def __init__(self, claim: Claim, standby: Standby, site: Site) -> None:
        self._claim = claim
        self._standby = standby
        self._site = site
        self._work: WorkKind = work_of(claim.job.kind)
        self._folder = site.settings.jobs_folder / claim.job.id
        self._log = log.bind(job_id=claim.job.id, attempt=claim.job.attempt, slot=standby.slot.name)
        self._attendance = Attendance(claim, site, self._log, on_steady=standby.prepare)
        self._mark = self._work.mark(self._work_folder)  # how far the job had got before this attempt

    def stop(self) -> None:
        """The worker is leaving: have the child checkpoint, and put the job back."""
        self._attendance.stop()

    def nudge(self) -> None:
        """Look at the records now: somebody may have cancelled."""
        self._attendance.nudge()

    def run(self) -> bool:
        """Work on the job until it ends, goes back to the queue, or is somebody else's.

        False if the host could start no process for it, and will hardly start one for the next job.
        """
        self._log.info("attempt_started", kind=self._claim.job.kind.value)
        try:
            self._store_leftovers()
            if self._work.resume(self._claim, self._site):
                self._log.info("attempt_ended", ending="published_before")
                return True
            order = self._order()
            # A worker that was frozen since its claim may have lost the job: two attempts must never train.
            if boot_clock() >= order.leave_at or not self._site.records.claims.holds(self._claim):
                self._log.warning("attempt_fenced")
                return True
            child = self._take()
            if child is None:
                return False
        except DatabaseUnavailableError as error:
            self._log.warning("attempt_abandoned", reason=str(error))
            return True
        except Exception as error:
            self._log.exception("attempt_not_started")
            self._settle_failure({**error_of(error), "retryable": True})
            return True
        try:
            child.begin(order)
            departure = self._attendance.attend(child)
        except Exception as error:
            self._log.exception("attempt_not_attended")
            outcome = {"ending": Ending.FAILED.value, "error": {**error_of(error), "retryable": True}}
            departure = Departure(End.ENDED, outcome, unstored=True)
        finally:
            code = self._part(child)
        self._conclude(departure, left_alone=code in (LEFT_ALONE, -signal.SIGALRM))
        return True

    def _take(self) -> Child | None:
        """A child for this attempt; None, and the job waits again, if the host can start no process."""
        try:
            return self._standby.take()
        except OSError as error:
            self._log.warning("child_not_started", error=str(error))
            reason = f"no process could be started: {error.strerror}"
            self._site.records.claims.put_back(self._claim, reason=reason, wait_s=RETRY_FIRST_S)
            return None

    def _part(self, child: Child) -> int:
        try:
            return child.part(self._attempt_folder / "log")
        except OSError as error:
            self._log.warning("log_not_kept", error=str(error))
            return child.kill()

    # What becomes of the job.

    def _conclude(self, departure: Departure, *, left_alone: bool) -> None:
        if departure.end is End.FENCED:
            self._log.warning("attempt_fenced")
            return
        outcome = departure.outcome or {}
        ending = Ending(outcome["ending"]) if outcome else None
        try:
            if departure.unstored:
                self._store_kept(self._claim.job.attempt)
            self._site.records.claims.set_resources(self._claim, self._used(departure))
            self._settle(departure, ending, outcome, left_alone=left_alone)
        except DatabaseUnavailableError as error:
            # The lease runs out, and the next attempt finds everything that this one has done.
            self._log.warning("attempt_abandoned", reason=str(error))
        except Exception as error:
            # The work itself is done: another attempt finds its checkpoint, or its version, and completes it.
            self._log.exception("attempt_not_completed")
            self._settle_failure({**error_of(error), "retryable": True})
        else:
            how = ending.value if ending else departure.end.value
            self._log.info("attempt_ended", ending="died" if how == End.ENDED else how)

    def _settle(
        self, departure: Departure, ending: Ending | None, outcome: Line, *, left_alone: bool
    ) -> None:
        claims, attendance = self._site.records.claims, self._attendance
        if attendance.cancelled or ending is Ending.CANCELLED:
            if claims.finish(self._claim, Status.CANCELLED):
                self._work.give_up(self._claim, self._site, None)
        elif departure.end is End.OUT_OF_MEMORY:
            self._finish_failed(self._out_of_memory(departure))
        elif ending is Ending.DONE:
            if claims.enter(self._claim, Phase.PUBLISHING):
                self._work.complete(self._claim, outcome["data"], self._site)
        elif ending is Ending.FAILED:
            self._settle_failure(outcome["error"])
        elif attendance.overtime:
            self._finish_failed(self._runtime_exceeded())
        elif ending is Ending.STOPPED or attendance.leaving:
            claims.put_back(self._claim, reason="its worker is leaving")
        else:
            self._settle_silence(departure, left_alone=left_alone)

    def _settle_silence(self, departure: Departure, *, left_alone: bool) -> None:
        """The child ended without a word: killed, crashed, frozen, or for want of a heartbeat."""
        claims = self._site.records.claims
        if departure.end is End.FROZEN:
            claims.put_back(self._claim, reason="its process was frozen")
        elif left_alone:
            claims.put_back(self._claim, reason="no heartbeat reached it")
        elif self._got_further:
            claims.put_back(self._claim, reason="its process died, after a new checkpoint")
        elif self._is_last:
            self._finish_failed(self._poisoned())
        else:
            claims.put_back(self._claim, reason="its process died", died=True)

    def _settle_failure(self, error: Mapping[str, Any]) -> None:
        further = self._got_further
        if not error.get("retryable") or (self._is_last and not further):
            self._finish_failed(error)
            return
        wait_s = min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0**self._claim.job.deaths)
        reason = f"{error['code']}: {error['detail']}"
        self._site.records.claims.put_back(self._claim, reason=reason, died=not further, wait_s=wait_s)

    def _finish_failed(self, error: Mapping[str, Any]) -> None:
        if self._site.records.claims.finish(self._claim, Status.FAILED, error=error):
            self._work.give_up(self._claim, self._site, error)

    @property
    def _is_last(self) -> bool:
        """Whether the job may not end by itself once more."""
        return self._claim.job.deaths + 1 >= self._claim.job.max_attempts

    @property
    def _got_further(self) -> bool:
        """Whether this attempt left a new checkpoint, so that the next one starts where none did."""
        return self._work.mark(self._work_folder) != self._mark

    def _used(self, departure: Departure) -> dict[str, Any]:
        job = self._claim.job
        said = (departure.outcome or {}).get("peak_memory_bytes", 0)
        known = (job.resources or {}).get("peak_memory_bytes", 0)
        return {
            "device": self._standby.slot.name,
            "peak_memory_bytes": max(said, known, departure.peak_memory_bytes),
            "device_seconds": round(job.ran_s + boot_clock() - self._claim.since, 3),
        }

    def _poisoned(self) -> dict[str, Any]:
        tail = _last_lines(self._attempt_folder / "log", 5)
        return {
            "code": "poisoned",
            "detail": f"its process died {self._claim.job.deaths + 1} times without getting further; "
            f"its last words: {tail}",
            "retryable": False,
            "remedy": "look at the attempt's log; a plugin or an operation may crash natively",
        }

    def _out_of_memory(self, departure: Departure) -> dict[str, Any]:
        return {
            "code": "out_of_memory",
            "detail": f"its processes held {departure.memory_bytes} bytes, "
            f"limits.memory_bytes is {self._claim.job.memory_bytes}",
            "retryable": False,
            "remedy": "lower data.pipeline.batch_size, make the model smaller, or raise limits.memory_bytes",
        }

    def _runtime_exceeded(self) -> dict[str, Any]:
        return {
            "code": "runtime_exceeded",
            "detail": f"it ran for limits.max_runtime_s, {self._claim.job.max_runtime_s:g} s, "
            "all attempts together",
            "retryable": False,
            "remedy": "raise limits.max_runtime_s, or train fewer epochs; its last checkpoint is kept",
        }

    # The folders.

    @property
    def _attempt_folder(self) -> Path:
        return self._folder / f"attempt-{self._claim.job.attempt}"

    @property
    def _work_folder(self) -> Path:
        return self._folder / "work"

    def _order(self) -> Order:
        job = self._claim.job
        self._attempt_folder.mkdir(parents=True, exist_ok=True)
        self._work_folder.mkdir(exist_ok=True)
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
            work_folder=str(self._work_folder),
            leave_at=self._claim.since + self._site.settings.lease_s * CHILD_SHARE_OF_LEASE,
            details=self._work.prepare(job, self._site),
        )

    def _store_leftovers(self) -> None:
        """Store what children of earlier attempts told after their supervisor had died."""
        for attempt in range(1, self._claim.job.attempt):
            self._store_kept(attempt)

    def _store_kept(self, attempt: int) -> None:
        """Store what an attempt's child kept on disk and nobody has stored yet."""
        kept = self._folder / f"attempt-{attempt}" / "events.jsonl"
        if kept.exists():
            claims = self._site.records.claims
            untold = _told_after(kept, claims.last_told(self._claim.job.id, attempt))
            claims.append(self._claim, events_of(untold), attempt=attempt)


def _told_after(kept: Path, n: int) -> list[Line]:
    """The lines of an events file after number `n`, without those that a kill or a power cut has spoilt.

    Read from the end: of ten days of training, only the last moments are nobody's yet.
    """
    lines: list[Line] = []
    if kept.stat().st_size == 0:
        return lines
    with kept.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content)
        while end > 0:
            begin = content.rfind(b"\n", 0, end - 1) + 1
            line, end = content[begin:end], begin
            try:
                told = json.loads(line)
            except ValueError:
                log.warning("events_file_damaged", file=str(kept), at_byte=begin)
                continue
            if told["n"] <= n:
                break
            lines.append(told)
    return lines[::-1]


def _last_lines(path: Path, count: int) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "(none)"
    return " | ".join(lines[-count:]) or "(none)"
