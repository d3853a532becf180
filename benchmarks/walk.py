"""Time the straight line hop by hop, for the demo's job: from POST to the first prediction of a new version.

The peer is `benchmarks.plain_digits`, a plain script that fits and exports the same model without proof,
store or serving; its rounds and ours take turns. Event times are those the worker's child and the service
recorded, on one host's clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import examples
from benchmarks.report import Figure, parser, show
from examples.data import write_digits
from fitserve import Client, Predictor
from service.settings import Settings
from service.up import Stack, free_addresses

SPEC = Path(examples.__file__).parent / "digits.json"
DEMO_WITHIN_S = 120.0
Hops = dict[str, float]
Event = tuple[float, str, Mapping[str, Any]]


def main() -> int:
    """Run the rounds and print the hops."""
    chosen = parser(__doc__, rounds=3).parse_args()
    with tempfile.TemporaryDirectory(prefix="fitserve-walk-") as folder, _stack(Path(folder)) as stack:
        data = Path(folder) / "digits.npz"
        write_digits(data)
        rounds: list[Hops] = []
        plain: list[float] = []
        with Client(stack.addresses.api, stack.settings.token_path.read_text().strip()) as client:
            client.upload(data, name="digits")
            for number in range(chosen.rounds):
                rounds.append(_walk(client, stack))
                plain.append(_plain(data, Path(folder) / f"plain-{number}"))
                stack.watch()
    figures = [Figure.of(name, [hops[name] for hops in rounds], "s") for name in rounds[0]]
    totals = [sum(hops.values()) for hops in rounds]
    figures.append(Figure.of("all of it", totals, "s", DEMO_WITHIN_S))
    figures.append(Figure.of("a plain script: fit and convert", plain, "s"))
    ratios = [ours / theirs for ours, theirs in zip(totals, plain, strict=True)]
    figures.append(Figure.of("all of it / plain script", ratios, "x"))
    return show("From POST to the first prediction, hop by hop", figures, as_json=chosen.json)


@contextmanager
def _stack(folder: Path) -> Iterator[Stack]:
    stack = Stack(Settings(home=folder / "home"), free_addresses(), lambda _text: None)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _walk(client: Client, stack: Stack) -> Hops:
    """One job; the seconds of each hop, in order."""
    spec = json.loads(SPEC.read_text())
    asked = time.time()
    job = client.submit(spec)
    posted = time.time()
    job = client.wait(job.id, timeout_s=300)
    if job.result is None or job.result.model is None or job.result.version is None:
        raise SystemExit(f"the job {job.status}: {job.error}")
    version = client.version(job.result.model, job.result.version, wait_s=30)
    if version.serving is None or version.serving.state != "AVAILABLE":
        raise SystemExit(f"version {version.version} did not become AVAILABLE")
    available = time.time()
    with Predictor(stack.addresses.serving_grpc) as predictor:
        predictor.predict(version.model, np.zeros((1, 8, 8, 1), np.float32), version=version.version)
    predicted = time.time()
    events = list(_events(stack, job.id))
    claimed = _seconds(next(m["at"] for m in job.raw["transitions"] if m["status"] == "running"))
    steps = [at for at, kind, _ in events if kind == "progress"]
    published = next(at for at, kind, _ in events if kind == "version")
    hops = {
        "POST: checked, committed, bell rung, answered": posted - asked,
        # The worker may be quicker than the answer.
        "bell to claim": max(0.0, claimed - posted),
        "claim to first step: spawn, import, load, build": steps[0] - claimed,
        "first step to last": steps[-1] - steps[0],
    }
    hops |= _exports(events, published)
    return hops | {
        "published to AVAILABLE": available - published,
        "first prediction: connect, metadata, predict": predicted - available,
    }


def _exports(events: Sequence[Event], published: float) -> Hops:
    """The hops between the last step and publication: each ends where the next begins."""
    last_step = max(at for at, kind, _ in events if kind == "progress")
    marks = [(last_step, "last step to exporting: restore the best, score the test rows")]
    for at, kind, data in events:
        if kind == "status" and data.get("phase") in ("exporting", "verifying"):
            what = "export" if data["phase"] == "exporting" else "proof of"
            marks.append((at, f"{what} {data['artifact']}"))
    last = marks[-1]
    marks[-1] = (last[0], f"{last[1]}, stage, fsync, rename, row")
    ends = [at for at, _ in marks[1:]] + [published]
    return {name: end - begin for (begin, name), end in zip(marks, ends, strict=True)}


def _events(stack: Stack, job_id: str) -> Iterator[Event]:
    """Every event of the job, from the pages of the API, which carry the times."""
    headers = {"Authorization": f"Bearer {stack.settings.token_path.read_text().strip()}"}
    after = "0"
    while after is not None:
        url = f"{stack.addresses.api}/v1/jobs/{job_id}/events"
        page = httpx.get(url, params={"after": after}, headers=headers).raise_for_status().json()
        for event in page["data"]:
            yield _seconds(event["created_at"]), event["event"], event["data"]
        after = page["next"]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _plain(data: Path, out: Path) -> float:
    out.mkdir()
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_digits", str(data), str(out)],
        check=True,
        capture_output=True,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
