"""The worker: a light Celery process whose slots claim jobs and supervise one spawned child each.

The Celery task is only the bell. Each slot is a thread that claims until nothing waits and then sleeps until
the next ring; a reconciler thread looks for what a lost bell or a lost worker left behind. TensorFlow is
never imported here.
"""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import structlog
from celery import bootsteps

from exporter.format import formats, missing
from service.errors import DatabaseUnavailableError
from service.kind import Site
from service.leftovers import kept_after
from service.logs import configure_logs
from service.plugins import described
from service.queue import Bell, celery_app, on_bell
from service.records import ChildEvent, Records
from service.served import announce, assign_aliases
from service.serving_client import ServingClient
from service.settings import Settings
from service.slots import FETCH, FOR_FETCHING, SHORT, Slot, parse_slots
from service.standby import Standby
from service.supervisor import Supervisor
from serving.errors import ServingError
from serving.store import Store
from trainer.plugin import VARIABLE

RING_AGAIN_AFTER_S = 10.0
"""A waiting job whose bell was rung so long ago is rung for again."""

log = structlog.get_logger(__name__)


class Worker:
    """The slots of one host, and the reconciler."""

    def __init__(self, settings: Settings, bell: Bell) -> None:
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._settings = settings
        self._bell = bell
        self._site = Site(settings, Records(settings.effective_database_url), Store(settings.store_root))
        self._serving = ServingClient(settings.serving_grpc)
        self._slots = tuple(_slots(settings))
        self._plugins: Mapping[str, Any] = {}
        self._standbys = [Standby(slot, warm=settings.standby) for slot in self._slots]
        self._wakes = [threading.Event() for _ in self._slots]
        self._supervised: dict[int, Supervisor] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the slots and the reconciler."""
        for index, slot in enumerate(self._slots):
            self._start(f"slot-{slot.name}", self._serve_slot, index, slot)
        self._start("reconciler", self._reconcile_forever)
        log.info("worker_started", worker=self.id, slots=[slot.name for slot in self._slots])

    def wake(self, job_id: str) -> None:
        """A bell rang: idle slots try to claim, busy ones look whether they should go on."""
        log.debug("bell", job_id=job_id)
        for wake in self._wakes:
            wake.set()
        for supervisor in list(self._supervised.values()):
            supervisor.nudge()

    def stop(self) -> None:
        """Put every job back, checkpointed, and end; at most the grace of a child plus a second or two."""
        self._stopping.set()
        for supervisor in list(self._supervised.values()):
            supervisor.stop()
        for wake in self._wakes:
            wake.set()
        until = time.monotonic() + self._settings.grace_s + 1.5
        # A database that is locked or away must hold nobody up: what is left undone, the leases tell.
        self._start("farewell", self._leave)
        for thread in self._threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        log.info(
            "worker_stopped", worker=self.id, left=[each.name for each in self._threads if each.is_alive()]
        )

    def _leave(self) -> None:
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        try:
            self._site.records.workers.gone(self.id)
        except DatabaseUnavailableError as error:
            log.warning("worker_row_left", error=str(error))
        self._serving.close()
        self._site.records.close()

    def _start(self, name: str, target: Any, *args: object) -> None:  # noqa: ANN401 - a thread's body
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _serve_slot(self, index: int, slot: Slot) -> None:
        wake = self._wakes[index]
        try:
            while not self._stopping.is_set():
                wake.clear()  # before the claim: a ring during it must not be lost
                if not self._work(index, slot):
                    wake.wait(timeout=self._settings.reconcile_s)
        finally:
            self._standbys[index].close()

    def _work(self, index: int, slot: Slot) -> bool:
        """Do one job if there is one; False if there was none, or it could not be asked for."""
        try:
            # A slot that can start nothing claims nothing: others may.
            return self._standbys[index].prepare() and self._work_once(index, slot)
        except DatabaseUnavailableError as error:
            log.warning("claim_failed", slot=slot.name, error=str(error))
        except Exception:
            # A slot that died would leave its device idle until somebody noticed.
            log.exception("slot_failed", slot=slot.name)
        return False

    def _work_once(self, index: int, slot: Slot) -> bool:
        claim = self._site.records.claims.claim_next(slot.kind, self.id, self._settings.lease_s)
        if claim is None:
            return False
        supervisor = Supervisor(claim, self._standbys[index], self._site)
        self._supervised[index] = supervisor
        try:
            if self._stopping.is_set():
                supervisor.stop()
            return supervisor.run()
        finally:
            del self._supervised[index]
            for wake in self._wakes:  # what it did may be what another waits for
                wake.set()

    def _reconcile_forever(self) -> None:
        recovery = self._site.records.recovery
        self._plugins = described(self._settings.plugins)
        while not self._stopping.is_set():
            try:
                self._site.records.workers.seen(self.id, self._capabilities())
                recovery.recover(self._untold)
                waiting = recovery.unrung(ring_after_s=RING_AGAIN_AFTER_S)
                # One ring wakes every slot of every worker, whatever the id.
                if waiting and self._bell.ring(waiting[0]):
                    recovery.rung(waiting)
                assign_aliases(self._site.records, self._serving)
                announce(self._site.records, self._site.store)
                self._sweep()
            except DatabaseUnavailableError as error:
                log.warning("reconcile_failed", error=str(error))
            except Exception:
                log.exception("reconcile_failed")
            self._stopping.wait(timeout=self._settings.reconcile_s)

    def _untold(self, job_id: str, attempt: int) -> list[ChildEvent]:
        """What the child of an attempt told after its supervisor had died."""
        try:
            last = self._site.records.claims.last_told(job_id, attempt)
            return kept_after(self._settings.jobs_folder / job_id / f"attempt-{attempt}", last)
        except (OSError, KeyError, TypeError, ValueError):
            # One file that can't be read must not keep all lost jobs from being taken up again.
            log.exception("events_file_unreadable", job_id=job_id, attempt=attempt)
            return []

    def _sweep(self) -> None:
        """Remove what jobs that ended without their worker left in the store."""
        for model, number, job_id in self._site.records.versions.orphaned():
            try:
                withdrawn = self._site.store.withdraw(model, job_id, number)
            except (OSError, ServingError):
                log.exception("version_not_withdrawn", model=model, version=number, job_id=job_id)
                continue
            if withdrawn:
                log.warning("version_withdrawn", model=model, version=number, job_id=job_id)
        for model, job_id in self._site.store.staged():
            job = self._site.records.jobs.get(job_id)
            if job is not None and job.status.is_terminal:
                self._site.store.collect(model, job_id)
                log.info("staging_removed", model=model, job_id=job_id)

    def _capabilities(self) -> dict[str, Any]:
        return {
            "slots": [slot.name for slot in self._slots],
            "formats": [name for name, format_ in formats().items() if not missing(format_)],
            "plugins": dict(self._plugins),
            "libraries": {
                name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "onnxruntime")
            },
        }


def _slots(settings: Settings) -> Iterator[Slot]:
    """Every slot of a worker, and what the children of each inherit."""
    for slot in (*parse_slots(settings.slots), SHORT):
        yield _with_plugins(slot, settings)
    if settings.allowed:
        inherited = {name: value for name, value in os.environ.items() if name.startswith(FOR_FETCHING)}
        yield replace(FETCH, environment={**FETCH.environment, **inherited})


def _with_plugins(slot: Slot, settings: Settings) -> Slot:
    """The slot whose children know the plugins."""
    if not settings.plugins:
        return slot
    return replace(slot, environment={**slot.environment, VARIABLE: settings.plugins})


def main() -> None:
    """Run `python -m service.worker`: a Celery worker on a pool of threads, since the bell only wakes."""
    settings = Settings()
    configure_logs(settings.log_level)
    app = celery_app(settings.effective_broker_url)
    worker = Worker(settings, Bell(app))
    on_bell(app, worker.wake)

    class Slots(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts our slots with the Celery worker, and ends them with it."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: object) -> None:  # noqa: ARG002 - Celery's signature
            worker.start()

        def stop(self, parent: object) -> None:  # noqa: ARG002 - Celery's signature
            worker.stop()

    app.steps["worker"].add(Slots)
    # Warm shutdown on SIGTERM, a second signal ends it hard; Celery's own words go to the log.
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=1",
            "--without-mingle",
            "--without-gossip",
            f"--loglevel={settings.log_level}",
            f"--hostname=fitserve-{os.getpid()}@%h",
        ]
    )


if __name__ == "__main__":
    main()
