"""One attempt, from claim to letting go: hand the child its order, attend it, decide what becomes of the job.

The supervisor is the only one that writes records for the attempt. Whatever goes wrong, its last act is to
kill the child's whole process group, so no attempt leaves anything running.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from service.attempt import LEFT_ALONE, error_of
from service.attendance import CHILD_SHARE_OF_LEASE, Attendance, Departure, End
from service.blame import RETRY_FIRST_S, Silence, back_off_s, judge
from service.child import Child
from service.errors import DatabaseUnavailableError
from service.jobs import Phase, Status
from service.kind import Site, WorkKind, work_of
from service.leftovers import kept_after
from service.protocol import TEMPORARY, Ending, Order, boot_clock
from service.records import Claim
from service.standby import Standby

ASK_AGAIN_S = 0.5

Result = TypeVar("Result")

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

        False if the host could start no process for it, or lost it at once: it will hardly do better for the
        next job.
        """
        self._log.info("attempt_started", kind=self._claim.job.kind.value)
        try:
            order = self._order_if_due()
            if order is None:
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
        return self._see_through(child, order)

    def _order_if_due(self) -> Order | None:
        """What the child is to do; None if nothing is left to do, or the job is somebody else's."""
        self._store_leftovers()
        if self._work.resume(self._claim, self._site):
            self._log.info("attempt_ended", ending="published_before")
            return None
        order = self._order()
        # A worker that was frozen since its claim may have lost the job: two attempts must never train.
        if boot_clock() >= order.leave_at or not self._site.records.claims.holds(self._claim):
            self._log.warning("attempt_fenced")
            return None
        return order

    def _see_through(self, child: Child, order: Order) -> bool:
        """The attempt from its child's order to its conclusion; False if the child died before it began."""
        try:
            child.begin(order)
            departure = self._attendance.attend(child)
        except Exception as error:
            self._log.exception("attempt_not_attended")
            outcome = {"ending": Ending.FAILED.value, "error": {**error_of(error), "retryable": True}}
            departure = Departure(End.ENDED, outcome, unstored=True)
        finally:
            code = self._part(child)
        self._conclude(departure, left=code in (LEFT_ALONE, -signal.SIGALRM))
        if departure.began:
            self._standby.began()
        lost = departure.end is End.ENDED and not departure.began and not self._attendance.hurries
        if lost:
            self._standby.rest()
        return not lost

    def _take(self) -> Child | None:
        """A child for this attempt; None, and the job waits again, if the host can start no process."""
        try:
            child = self._standby.take()
            self._attendance.listen(child)
        except OSError as error:
            self._log.warning("child_not_started", error=str(error))
            self._standby.rest()
            reason = f"no process could be started: {error.strerror}"
            self._site.records.claims.put_back(self._claim, reason=reason, wait_s=RETRY_FIRST_S)
            return None
        return child

    def _part(self, child: Child) -> int:
        try:
            return child.part(self._attempt_folder / "log")
        except OSError as error:
            self._log.warning("log_not_kept", error=str(error))
            return child.kill()
        finally:
            shutil.rmtree(self._attempt_folder / TEMPORARY, ignore_errors=True)

    # What becomes of the job.

    def _conclude(self, departure: Departure, *, left: bool) -> None:
        if departure.end is End.FENCED:
            self._log.warning("attempt_fenced")
            return
        try:
            how = self._insist(lambda: self._settle(departure, left=left))
            self._log.info("attempt_ended", ending=how)
        except DatabaseUnavailableError as error:
            # The lease runs out, and the next attempt finds everything that this one has done.
            self._log.warning("attempt_abandoned", reason=str(error))
        except Exception as error:
            # The work itself is done: another attempt finds its checkpoint, or its version, and completes it.
            self._log.exception("attempt_not_completed")
            failure = {**error_of(error), "retryable": True}
            self._insist(lambda: self._settle_failure(failure))

    def _insist(self, write: Callable[[], Result]) -> Result:
        """Call what writes again while the database is away, for as long as the lease lasts."""
        while True:
            try:
                return write()
            except DatabaseUnavailableError:
                if boot_clock() + ASK_AGAIN_S >= self._attendance.lease_until:
                    raise
            time.sleep(ASK_AGAIN_S)

    def _settle(self, departure: Departure, *, left: bool) -> str:
        """Say in the records what becomes of the job; how the attempt ended, for the log.

        May be called again when it did not come to its end.
        """
        if departure.unstored:
            self._store_kept(self._claim.job.attempt)
        self._site.records.claims.set_resources(self._claim, self._used(departure))
        outcome = departure.outcome or {}
        ending = Ending(outcome["ending"]) if outcome else None
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
            self._settle_silence(departure, left=left)
            return "died" if departure.end is End.ENDED else departure.end.value
        return ending.value if ending else departure.end.value

    def _settle_silence(self, departure: Departure, *, left: bool) -> None:
        """The child ended without a word."""
        verdict = judge(
            Silence(
                began=departure.began,
                frozen=departure.end is End.FROZEN,
                left=left,
                unheard=departure.unheard,
                further=self._got_further,
            )
        )
        if verdict.counted and self._is_last:
            self._finish_failed(self._poisoned(verdict.reason))
            return
        reason = verdict.reason
        if not departure.began:
            reason += f"; its last words: {self._last_words(1)}"
        self._site.records.claims.put_back(
            self._claim, reason=reason, died=verdict.counted, wait_s=verdict.wait_s
        )

    def _settle_failure(self, error: Mapping[str, Any]) -> None:
        further = self._got_further
        if not error.get("retryable") or (self._is_last and not further):
            self._finish_failed(error)
            return
        self._site.records.claims.put_back(
            self._claim,
            reason=f"{error['code']}: {error['detail']}",
            died=not further,
            wait_s=back_off_s(self._claim.job.deaths),
        )

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

    def _poisoned(self, reason: str) -> dict[str, Any]:
        return {
            "code": "poisoned",
            "detail": f"{self._claim.job.deaths + 1} attempts ended by themselves without getting further, "
            f"the last one since {reason}; its last words: {self._last_words(5)}",
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
        """Store what children of earlier attempts told after their supervisor had died, and tidy up."""
        for attempt in range(1, self._claim.job.attempt):
            self._store_kept(attempt)
            shutil.rmtree(self._folder / f"attempt-{attempt}" / TEMPORARY, ignore_errors=True)

    def _store_kept(self, attempt: int) -> None:
        """Store what an attempt's child kept on disk and nobody has stored yet."""
        claims = self._site.records.claims
        last = claims.last_told(self._claim.job.id, attempt)
        told = kept_after(self._folder / f"attempt-{attempt}", last)
        if told:
            claims.append(self._claim, told, attempt=attempt)

    def _last_words(self, count: int) -> str:
        try:
            lines = (self._attempt_folder / "log").read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return " | ".join(lines[-count:]) or "(none)"
