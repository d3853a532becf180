"""What the job engine itself costs: the way to a first step, a cancel, a stop, a POST, a page of a list.

Everything runs against real processes of its own, and sides that are compared take turns in one run. `--only`
picks some of the parts; `--rounds` is how often each is repeated.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

import examples
from benchmarks.clients import post_for
from benchmarks.report import Figure, parser, show
from benchmarks.stacks import client_of, events_of, running
from examples.data import write_breast_cancer
from fitserve import Client
from service.jobs import Kind, NewJob
from service.records import Records
from service.settings import Settings
from service.up import Stack, free_addresses

FIRST_STEP_RATIO = 0.25
OUTSIDE_CHILD_S = 0.15
CANCEL_P99_S = 2.0
STOP_S = 8.0
POSTS_RATIO = 0.4
PAGE_RATIO = 3.0
CLIENTS = 16
POSTS_S = 5.0
CANCELS_PER_ROUND = 20
LONG_LIST, SHORT_LIST = 10_000, 100
WARM_WITHIN_S = 60.0


def main() -> int:
    """Run the parts and print their figures."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--only", action="append", choices=sorted(PARTS), help="one part; may be repeated")
    options.add_argument("--seed", type=int, default=7, help="of the moments at which jobs are cancelled")
    chosen = options.parse_args()
    random.seed(chosen.seed)
    figures: list[Figure] = []
    for name in chosen.only or PARTS:
        figures += PARTS[name](chosen.rounds)
    return show("The job engine", figures, as_json=chosen.json)


# A job's way to its first step.


def first_step(rounds: int) -> list[Figure]:
    """From before the POST to the end of the first batch, with a warm child, against a plain script."""
    ours, outside, plain = [], [], []
    with _stack() as (stack, client, folder):
        data = folder / "breast_cancer.csv"
        for _ in range(rounds):
            _await_warm(stack)
            asked = time.time()
            job = client.submit(_spec(export=[]))
            events = _until(stack, job.id, "progress")
            ours.append(_at(events, "progress") - asked)
            outside.append(_at(events, "status", phase="starting") - asked)
            client.cancel(job.id)
            client.wait(job.id, timeout_s=60)
            _await_warm(stack)  # so that its import doesn't slow the script
            plain.append(_plain_first_step(data))
    ratios = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
    return [
        Figure.of("POST to the first step, warm child", ours, "s"),
        Figure.of("  of it before the child had its order", outside, "s", OUTSIDE_CHILD_S),
        Figure.of("plain python train.py to its first step", plain, "s"),
        Figure.of("first step: ours / plain", ratios, "x", FIRST_STEP_RATIO),
    ]


def _plain_first_step(data: Path) -> float:
    began = time.time()
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_first_step", str(data)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(said.split()[-1]) - began


# Cancel and stop.


def cancels(rounds: int) -> list[Figure]:
    """Jobs cancelled at random moments of their first seconds; from the POST to a terminal status."""
    took: list[float] = []
    with _stack(slots="cpu;cpu") as (stack, _, _folder), ThreadPoolExecutor(2) as pool:

        def cancel_one(moment_s: float) -> float:
            with client_of(stack) as client:
                job = client.submit(_spec(fit={"epochs": 100_000}))
                time.sleep(moment_s)
                asked = time.monotonic()
                client.cancel(job.id)
                ended = client.wait(job.id, timeout_s=60)
                if ended.status != "cancelled":
                    raise SystemExit(f"a cancelled job {ended.status}: {ended.error}")
                return time.monotonic() - asked

        moments = [random.uniform(0, 6) for _ in range(rounds * CANCELS_PER_ROUND)]
        took = list(pool.map(cancel_one, moments))
    return [
        Figure.of(f"cancel POST to terminal, median of {len(took)}", took, "s"),
        Figure.of(f"cancel POST to terminal, p99 of {len(took)}", [_p99(took)], "s", CANCEL_P99_S),
    ]


def stops(rounds: int) -> list[Figure]:
    """SIGTERM to a worker whose job is training, to the end of its process."""
    took = []
    with _stack() as (stack, client, _):
        job = client.submit(_spec(fit={"epochs": 100_000}))
        for _round in range(rounds):
            _until(stack, job.id, "progress", after=_last_event(stack, job.id))
            worker = stack.pids["worker"]
            began = time.monotonic()
            os.kill(worker, signal.SIGTERM)
            while stack.pids.get("worker") == worker:
                time.sleep(0.01)
            took.append(time.monotonic() - began)
            stack.watch()  # sees its end
            while "worker" not in stack.pids:
                stack.watch()
                time.sleep(0.05)
        client.cancel(job.id)
    return [Figure.of("worker SIGTERM to exit, its job training", took, "s", STOP_S)]


# POST and lists.


def posts(rounds: int) -> list[Figure]:
    """POST /v1/jobs from many clients, against an endpoint that only inserts a row in the same database."""
    ours, bare, ratios, slowest = [], [], [], []
    with _api() as (url, headers, home), _bare(f"sqlite:///{home}/fitserve.db") as bare_url:
        body = json.dumps(_spec()).encode()

        def rate(address: str) -> tuple[float, list[float]]:
            took = post_for(POSTS_S, clients=CLIENTS, url=address, body=body, headers=headers)
            return len(took) / POSTS_S, took

        for _ in range(rounds):
            theirs, _took = rate(f"{bare_url}/rows")
            mine, took = rate(f"{url}/v1/jobs")
            ours.append(mine)
            bare.append(theirs)
            ratios.append(mine / theirs)
            slowest.append(_p99(took))
    return [
        Figure.of(f"POST /v1/jobs, {CLIENTS} clients", ours, "1/s"),
        Figure.of("  the slowest hundredth takes", slowest, "s"),
        Figure.of(f"bare one-row insert, {CLIENTS} clients", bare, "1/s"),
        # The report's targets are upper bounds: bare over ours is what must stay small.
        Figure.of("POSTs: bare / ours", [1 / each for each in ratios], "x", 1 / POSTS_RATIO),
    ]


def lists(rounds: int) -> list[Figure]:
    """A page of a long list of waiting jobs against one of a short list."""
    pages: dict[int, list[float]] = {SHORT_LIST: [], LONG_LIST: []}
    with _api(jobs=SHORT_LIST) as short, _api(jobs=LONG_LIST) as long:
        sides = ((SHORT_LIST, short), (LONG_LIST, long))
        with httpx.Client(trust_env=False) as http:
            for _ in range(rounds * 20):
                for jobs, (url, headers, _home) in sides:
                    began = time.monotonic()
                    answer = http.get(f"{url}/v1/jobs?limit=100", headers=headers).raise_for_status()
                    pages[jobs].append(time.monotonic() - began)
                    assert len(answer.json()["data"]) == SHORT_LIST
    ratios = [ours / theirs for ours, theirs in zip(pages[LONG_LIST], pages[SHORT_LIST], strict=True)]
    return [
        Figure.of(f"a page of 100 of {SHORT_LIST} waiting jobs", pages[SHORT_LIST], "s"),
        Figure.of(f"a page of 100 of {LONG_LIST} waiting jobs", pages[LONG_LIST], "s"),
        Figure.of("page: long list / short list", ratios, "x", PAGE_RATIO),
    ]


PARTS: Mapping[str, Callable[[int], list[Figure]]] = {
    "first-step": first_step,
    "cancel": cancels,
    "stop": stops,
    "post": posts,
    "list": lists,
}


# The processes.


@contextmanager
def _stack(**settings: Any) -> Iterator[tuple[Stack, Client, Path]]:
    """A whole stack with the breast-cancer data uploaded."""
    with running(**settings) as (stack, folder), client_of(stack) as client:
        write_breast_cancer(folder / "breast_cancer.csv")
        client.upload(folder / "breast_cancer.csv", name="breast-cancer")
        yield stack, client, folder


@contextmanager
def _api(*, jobs: int = 0) -> Iterator[tuple[str, dict[str, str], Path]]:
    """An API alone, over a database with so many waiting jobs, and nobody to work on them."""
    with tempfile.TemporaryDirectory(prefix="fitserve-engine-") as name:
        home = Path(name)
        settings = Settings(home=home, broker_url=f"redis+socket://{home}/nobody.sock")
        environment = {
            **os.environ,
            "FITSERVE_HOME": name,
            "FITSERVE_BROKER_URL": settings.broker_url,
            "FITSERVE_LOG_LEVEL": "ERROR",
        }
        subprocess.run(
            [sys.executable, "-m", "service.init"], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        records = Records(settings.effective_database_url)
        _put_data(records)
        for _ in range(jobs):
            records.jobs.create(NewJob(kind=Kind.TRAIN, spec=_spec(), name="breast-cancer"))
        records.close()
        port = free_addresses().api_port
        command = ["-m", "service.api", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {settings.token_path.read_text().strip()}"}
        with _process(command, f"{url}/healthz", environment):
            yield url, headers, home


@contextmanager
def _bare(database_url: str) -> Iterator[str]:
    port = free_addresses().api_port
    url = f"http://127.0.0.1:{port}"
    with _process(["-m", "benchmarks.bare_insert", database_url, str(port)], f"{url}/docs", dict(os.environ)):
        yield url


@contextmanager
def _process(command: Sequence[str], answers: str, environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(answers, trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _put_data(records: Records) -> None:
    """The data set's row, as if read: no file is needed where nobody trains."""
    columns = [{"name": name, "dtype": "float64", "shape": []} for name in _columns()]
    ingest = NewJob(kind=Kind.INGEST, spec={"filename": "x.csv"}, dataset_id="ds_bench")
    records.datasets.create(
        dataset_id="ds_bench",
        name="breast-cancer",
        digest="sha256:" + "0" * 64,
        size_bytes=1,
        filename="breast_cancer.csv",
        ingest=ingest,
    )
    claim = records.claims.claim_next(Kind.INGEST.slot, "benchmark", 60)
    assert claim is not None
    found = {"kind": "csv", "schema": {"columns": columns}, "statistics": {}}
    assert records.datasets.ingested(claim, found)


# What is asked, and what is read.


def _spec(**changes: Any) -> dict[str, Any]:
    path = Path(examples.__file__).parent / "breast_cancer.json"
    spec: dict[str, Any] = json.loads(path.read_text())
    spec["fit"] = {**spec["fit"], "callbacks": []}
    return {**spec, **changes}


def _columns() -> list[str]:
    data = _spec()["data"]
    return [*data["features"], data["label"]]


def _await_warm(stack: Stack) -> None:
    """Wait until the worker's children stand still: what a waiting child imports, it has imported."""
    import psutil

    worker = psutil.Process(stack.pids["worker"])
    until = time.monotonic() + WARM_WITHIN_S
    quiet_since = time.monotonic()
    before = -1.0
    while time.monotonic() - quiet_since < 1.0:
        times = [child.cpu_times() for child in worker.children(recursive=True)]
        spent = round(sum(each.user + each.system for each in times), 1)
        if spent != before or len(times) < len(("cpu", "short")):
            before, quiet_since = spent, time.monotonic()
        if time.monotonic() > until:
            raise SystemExit("the worker's waiting children did not come to rest")
        time.sleep(0.1)


def _until(stack: Stack, job_id: str, kind: str, *, after: int = 0) -> list[dict[str, Any]]:
    """The job's events from the first on, as soon as one of this kind is among those past `after`."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        events = events_of(stack, job_id)
        if any(event["event"] == kind and event["id"] > after for event in events):
            return events
        time.sleep(0.05)
    raise SystemExit(f"no {kind} came of {job_id}")


def _last_event(stack: Stack, job_id: str) -> int:
    events = events_of(stack, job_id)
    return int(events[-1]["id"]) if events else 0


def _at(events: Sequence[Mapping[str, Any]], kind: str, **data: str) -> float:
    """When the first event of this kind with these data was told, seconds since the epoch."""
    return next(
        datetime.fromisoformat(event["created_at"]).timestamp()
        for event in events
        if event["event"] == kind and data.items() <= event["data"].items()
    )


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


if __name__ == "__main__":
    sys.exit(main())
