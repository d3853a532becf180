"""One fleet, somebody who asks it for jobs, and a hand that reaches each process at a chosen moment."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from sqlalchemy.exc import OperationalError

from serving.store import Store
from tests.faults import evidence
from tests.faults.customer import ENDED, wait_until_read
from tests.faults.evidence import Recorded
from tests.faults.fleet import Fleet, signal_quietly
from tests.faults.journal import Board, Journal, Line, Sighting
from tests.faults.mayhem import wait_tick
from tests.faults.specs import digits, specs

WITHIN_S = 90.0
SLOW_STEP_S = 0.02
"""So long every training step takes besides, so that a moment within an epoch can be met."""

Value = TypeVar("Value")


class Scene:
    """What a test does to the fleet, and what it sees of it. All of it belongs to the fleet's own thread."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._journal = Journal(fleet.journal)
        self._board = Board()
        self._alike: dict[str, str] = {}
        self._last_held: dict[str, float] = {}
        self._holds = Path(fleet.witnessed["PYTHON_FAULTS_HOLDS"])

    def begin(self) -> None:
        """Start everything, and upload the data."""
        self._holds.mkdir()
        self.fleet.start()
        wait_until_read(self.fleet.apis[0], self.fleet.token, digits())

    # Asking for jobs.

    def post(
        self, spec: Mapping[str, Any], *, key: str | None = None, api: int = 0, timeout_s: float = 10
    ) -> httpx.Response:
        """POST a job once; any thread may."""
        with self._client(api, timeout_s) as http:
            return http.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key} if key else {})

    def submit(self, which: int = 0, *, epochs: int = 2, **changes: Any) -> str:
        """Have a job accepted, the `which`th of `specs` with the product's own limits; its id."""
        answer = self.post(spec(which, epochs=epochs, **changes))
        assert answer.status_code == 202, answer.text
        return self.accepted(answer.json()["id"], which, epochs)

    def occupy(self, **changes: Any) -> list[str]:
        """Have every worker in the midst of a job, held at its first validation until `resume`."""
        jobs = [self.submit(**changes) for _ in self.fleet.workers]
        for job in jobs:
            self.arm("validating", job)
        for job in jobs:
            self.held("validating", job)
        return jobs

    def resume(self, jobs: Collection[str]) -> None:
        """Let the jobs of `occupy` go on."""
        for job in jobs:
            self.release("validating", job)

    @property
    def known(self) -> set[str]:
        """The jobs that were accepted so far."""
        return set(self._alike)

    def accepted(self, job: str, which: int = 0, epochs: int = 2) -> str:
        """Expect of this job the weights of every other with its spec."""
        self._alike[job] = f"spec {which}, {epochs} epochs"
        return job

    def cancel(self, job: str) -> int:
        """Ask the job to end; the answer's status code."""
        with self._client(0, 10) as http:
            return http.post(f"/v1/jobs/{job}/cancel").status_code

    def job(self, job: str) -> dict[str, Any]:
        """The job as the API tells it, as soon as one of the APIs does."""

        def look() -> dict[str, Any] | None:
            for api in (0, 1):
                try:
                    with self._client(api, 5) as http:
                        answer = http.get(f"/v1/jobs/{job}")
                except httpx.TransportError:
                    continue
                if answer.status_code < 500:
                    assert answer.status_code == 200, answer.text
                    return dict(answer.json())
            return None

        return self.until(look)

    def ended(self, job: str, *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The job once it is over."""
        body: dict[str, Any] = {}

        def over() -> bool:
            body.update(self.job(job))
            return body["status"] in ENDED

        try:
            self.until(over, within_s=within_s, every_s=0.1)
        except AssertionError as error:
            last = [str(line) for line in self._journal.lines if line.job == job][-5:]
            raise AssertionError(f"{job} is {body}\n{last}\n{self.fleet.last_words()}") from error
        return body

    def succeeded(self, job: str, *, attempts: Collection[int] = (1,)) -> dict[str, Any]:
        """The job once it has succeeded, by so many attempts."""
        body = self.ended(job)
        assert body["status"] == "succeeded", (body["error"], reasons(body))
        assert body["attempt"] in attempts, reasons(body)
        return body

    # Seeing.

    def until(
        self, look: Callable[[], Value | None], *, within_s: float = WITHIN_S, every_s: float = 0
    ) -> Value:
        """Tend the fleet and read the journal until `look` gives something true; that."""
        deadline = time.monotonic() + within_s
        while True:
            self.fleet.tend()
            self._board.see(self._journal.read_on())
            assert not self._board.unwitnessed, self._board.unwitnessed
            if value := look():
                return value
            assert time.monotonic() < deadline, f"not within {within_s} s: {look.__qualname__}"
            wait_tick()
            if every_s:
                time.sleep(every_s)

    def rest(self, seconds: float) -> None:
        """Tend the fleet for so long: what is to happen is that nothing does."""
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over, within_s=seconds + 5)

    def training(self, job: str, *, attempt: int = 1, steps: int = 1) -> Sighting:
        """The attempt, once it has done so many steps and is in training right now."""
        counted = 0
        read = 0

        def far_enough() -> Sighting | None:
            nonlocal counted, read
            lines = self._journal.lines
            counted += sum(
                line.what == "step" and line.job == job and line.attempt == attempt for line in lines[read:]
            )
            read = len(lines)
            seen = self._board.sightings.get((job, attempt))
            return seen if seen and counted >= steps and seen.phase == "training" else None

        return self.until(far_enough)

    def lines(self, job: str) -> list[Line]:
        """What the journal says of this job so far."""
        return [line for line in self._journal.lines if line.job == job]

    def begun(self, job: str) -> list[int]:
        """The attempts of this job that came to a child."""
        return [line.attempt or 0 for line in self.lines(job) if line.what == "begin"]

    def rows_of(self, model: str) -> list[str]:
        """The jobs that the records hold of this model."""
        recorded = self.recorded()
        return [row["id"] for row in recorded.jobs if row["name"] == model]

    def recorded(self) -> Recorded:
        """The records, as soon as the database answers."""

        def read() -> Recorded | None:
            try:
                return Recorded.read(self.fleet.settings.effective_database_url)
            except OperationalError:
                return None

        return self.until(read, within_s=30)

    # Holding, striking.

    def arm(self, point: str, job: str = "") -> None:
        """Have the next process that comes to this point of the witness, or this job's, stand still there."""
        (self._holds / _name(point, job)).touch()

    def held(self, point: str, job: str = "") -> Line:
        """The process that stands still at the point."""
        name = _name(point, job)
        held = self._holds / f"{name}.held"
        before = self._last_held.get(name, 0.0)

        def there() -> Line | None:
            if not held.exists():
                return None
            lines = (line for line in reversed(self._journal.lines) if line.facts.get("point") == name)
            return next((line for line in lines if line.t > before), None)

        found = self.until(there)
        self._last_held[name] = found.t
        return found

    def release(self, point: str, job: str = "") -> None:
        """Let it go on; after its death, make room for the next."""
        (self._holds / f"{_name(point, job)}.held").unlink(missing_ok=True)

    def let_go(self) -> None:
        """Disarm every point, and let go on whoever is held: the next test must not meet them."""
        for file in self._holds.iterdir():
            file.unlink(missing_ok=True)

    def sighting(self, line: Line) -> Sighting:
        """The attempt that a process in this line worked for."""
        if line.job is not None and line.attempt is not None:
            return self._board.sightings[line.job, line.attempt]
        return next(seen for seen in self._board.sightings.values() if seen.converter == line.pid)

    def strike(self, which: signal.Signals, *pids: int | None) -> None:
        """Send the signal to each of them; all have to be there."""
        for pid in pids:
            assert pid is not None
            assert signal_quietly(pid, which), f"{pid} was gone before it could get {which.name}"

    def everything(self, which: signal.Signals) -> None:
        """Strike whatever belongs to the fleet, children and their children too."""
        for process in self.fleet.processes():
            signal_quietly(process.pid, which)

    def limit_files(self, size_bytes: int | None, *pids: int | None) -> None:
        """Let none of them write a file beyond this size, as a full disk would; None gives room again."""
        for pid in pids:
            assert pid is not None
            soft = resource.RLIM_INFINITY if size_bytes is None else size_bytes
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))

    # The verdict.

    def judge(self, *jobs: str) -> None:
        """What holds of every job: no overlap, no gap, one version of a success and none of anything else."""
        store = Store(self.fleet.settings.store_root)
        self.until(lambda: not store.staged(), within_s=20)
        everything = recorded = self.recorded()
        published = {row["job_id"] for row in recorded.versions if row["status"] == "published"}
        recorded = replace(recorded, jobs=[row for row in recorded.jobs if row["id"] in jobs])
        lines = [line for line in self._journal.lines if line.job in jobs]
        done = {row["id"] for row in recorded.jobs if row["status"] == "succeeded"}
        found = {
            "rows": [] if len(recorded.jobs) == len(jobs) else [f"{len(recorded.jobs)} of {len(jobs)}"],
            "overlaps": evidence.overlaps(lines),
            "begun twice": evidence.twice_begun(lines),
            "illegal moves": evidence.illegal_moves(recorded),
            "event gaps": evidence.event_gaps(
                recorded, evidence.kept_events(self.fleet.settings.jobs_folder, jobs)
            ),
            "published twice": evidence.published_twice(everything, store),
            "published in vain": sorted((published & set(jobs)) - done),
            "broken curves": evidence.broken_curves(recorded, self._alike),
            "differing weights": evidence.differing_weights(everything, store, self._alike),
        }
        broken = {promise: list(map(str, each)) for promise, each in found.items() if each}
        assert not broken, broken

    def _client(self, api: int, timeout_s: float) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.fleet.token}"}
        # Our own ports: a proxy of the environment is for the world outside.
        return httpx.Client(
            base_url=self.fleet.apis[api], headers=headers, timeout=timeout_s, trust_env=False
        )


def _name(point: str, job: str) -> str:
    return f"{point}@{job}" if job else point


def spec(which: int = 0, *, epochs: int = 2, **changes: Any) -> dict[str, Any]:
    """One of `specs` with the product's own limits: 0 an MLP, 1 a CNN with a TFLite artifact."""
    # The CNN of `specs` trains two epochs less.
    asked = {**specs(epochs=epochs + 2 * (which == 1))[which], **changes}
    if "limits" not in changes:
        del asked["limits"]
    return asked


def reasons(body: Mapping[str, Any]) -> list[str]:
    """Why the job went back to the queue, each time."""
    return [each["reason"] for each in body["transitions"] if each["status"] == "queued" and each["reason"]]


def family(pid: int) -> list[int]:
    """A process and all that it started, however deep."""
    top = psutil.Process(pid)
    return [each.pid for each in (top, *top.children(recursive=True))]
