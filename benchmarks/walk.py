"""Time the straight line hop by hop, for the demo's job: from POST to the first prediction of a new version.

The peer is `benchmarks.plain_digits`, a plain script that fits and exports the same model without proof,
store or serving; its rounds and ours take turns. Event times are those the worker's child and the service
recorded, on one host's clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import examples
from benchmarks.report import Figure, parser, show
from benchmarks.stacks import client_of, events_of, running
from examples.data import write_digits
from fitserve import Client, Predictor
from service.up import Stack

SPEC = Path(examples.__file__).parent / "digits.json"
DEMO_WITHIN_S = 120.0
Hops = dict[str, float]
Event = tuple[float, str, Mapping[str, Any]]


def main() -> int:
    """Run the rounds and print the hops."""
    chosen = parser(__doc__, rounds=3).parse_args()
    with running() as (stack, folder):
        data = folder / "digits.npz"
        write_digits(data)
        rounds: list[Hops] = []
        plain: list[float] = []
        with client_of(stack) as client:
            client.upload(data, name="digits")
            for number in range(chosen.rounds):
                rounds.append(_walk(client, stack))
                plain.append(_plain(data, folder / f"plain-{number}"))
                stack.watch()
    figures = [Figure.of(name, [hops[name] for hops in rounds], "s") for name in rounds[0]]
    totals = [sum(hops.values()) for hops in rounds]
    figures.append(Figure.of("all of it", totals, "s", DEMO_WITHIN_S))
    figures.append(Figure.of("a plain script: fit and convert", plain, "s"))
    ratios = [ours / theirs for ours, theirs in zip(totals, plain, strict=True)]
    figures.append(Figure.of("all of it / plain script", ratios, "x"))
    return show("From POST to the first prediction, hop by hop", figures, as_json=chosen.json)


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
    events = [
        (_seconds(event["created_at"]), event["event"], event["data"]) for event in events_of(stack, job.id)
    ]
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
