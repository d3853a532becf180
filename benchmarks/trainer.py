"""What training in a job costs, epoch by epoch, against scripts that only train.

A job's epochs are timed by its own metric events, which its process dates as each epoch ends (checkpoint
written, metrics read); a script's by a callback. Of both the first two epochs are left out: they trace the
model, and the job runs its first one step by step to measure what a call costs. Rounds take turns on one
stack.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import examples
from benchmarks.report import Figure, parser, show
from benchmarks.stacks import client_of, events_of, running
from examples.data import write_digits
from service.up import Stack

SCRIPT_RATIO = 1.1
NUMPY_RATIO = 0.6
UNSETTLED = 2
ASKED_FOR = 50
"""A job's epochs, of which it is let do some: with few to come, it would not pay to trace its steps anew."""
WITHIN_S = 240.0
MLP = [("Dense", 64, "relu"), ("Dense", 64, "relu"), ("Dense", 1, "sigmoid")]


@dataclass(frozen=True)
class Case:
    """A job and the script that does the same work."""

    name: str
    says: str
    rows: int
    epochs: int
    target: float
    batch_size: int
    steps_per_execution: int
    """The script's; a job may choose its own."""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The job."""
        document: dict[str, Any] = json.loads((Path(examples.__file__).parent / "digits.json").read_text())
        document |= {"fit": {"epochs": ASKED_FOR}, "export": []}
        return {**document, **self.changes}


def _mlp(data: str, batch_size: int, steps_per_execution: int | str) -> dict[str, Any]:
    layers = [
        {"class_name": name, "config": {"units": units, "activation": activation}}
        for name, units, activation in MLP
    ]
    return {
        "name": data,
        "model": {"kind": "sequential", "layers": layers},
        "data": {
            "kind": "npz",
            "uri": f"dataset://{data}",
            "features": "x",
            "label": "y",
            "pipeline": {"batch_size": batch_size},
        },
        "compile": {
            "optimizer": "adam",
            "loss": "binary_crossentropy",
            "metrics": ["accuracy"],
            "steps_per_execution": steps_per_execution,
        },
        "seed": None,
    }


CASES = (
    Case("mlp", "MLP, 1,000,000 rows", 1_000_000, 5, SCRIPT_RATIO, 1024, 64, _mlp("mlp", 1024, 64)),
    Case("cnn", "CNN, digits", 1_797, 8, SCRIPT_RATIO, 32, 1),
    Case("numpy", "MLP, 100,000 rows", 100_000, 5, NUMPY_RATIO, 32, 1, _mlp("numpy", 32, "auto")),
)


def main() -> int:
    """Run the cases and print their figures."""
    options = parser(__doc__, rounds=9)
    names = [case.name for case in CASES]
    options.add_argument("--only", action="append", choices=names, help="one case; may be repeated")
    options.add_argument("--rows", type=int, default=1_000_000, help="at most so many rows (for a short try)")
    chosen = options.parse_args()
    cases = [case for case in CASES if not chosen.only or case.name in chosen.only]
    # Without a waiting child, nothing is imported while a script runs.
    with running(standby=False) as (stack, folder):
        figures = [
            figure
            for case in cases
            for figure in _compared(stack, case, _data(case, folder, chosen.rows), chosen.rounds)
        ]
    return show("Training in a job", figures, as_json=chosen.json)


def _compared(stack: Stack, case: Case, data: Path, rounds: int) -> list[Figure]:
    """A job's epochs and a script's, in turns."""
    ours, theirs, ratios = [], [], []
    with client_of(stack) as client, _script(case, data) as script:
        client.upload(data, name=case.spec()["data"]["uri"].removeprefix("dataset://"))
        for _ in range(rounds):
            ours.append(_job(stack, case))
            theirs.append(_settled(script()))
            ratios.append(ours[-1] / theirs[-1])
    other = "model.fit on arrays" if case.name == "numpy" else "plain script"
    return [
        Figure.of(f"{case.says}: an epoch in a job", ours, "s"),
        Figure.of(f"{case.says}: an epoch of {other}", theirs, "s"),
        Figure.of(f"{case.says}: job / {other}", ratios, "x", case.target),
    ]


def _job(stack: Stack, case: Case) -> float:
    """An epoch of a job, which is cancelled when it has done enough of them."""
    with client_of(stack) as client:
        job = client.submit(case.spec())
        for event in client.events(job.id, timeout_s=WITHIN_S):
            if event.is_last:
                raise SystemExit(f"the job {event.data['status']}: {client.job(job.id).error}")
            if event.kind == "metric" and event.data["epoch"] == case.epochs:
                break
        client.cancel(job.id)
        client.wait(job.id, timeout_s=WITHIN_S)
    ends = [
        datetime.fromisoformat(event["created_at"]).timestamp()
        for event in events_of(stack, job.id)
        if event["event"] == "metric" or event["data"].get("phase") == "training"
    ]
    return _settled([end - begin for begin, end in itertools.pairwise(ends)][: case.epochs])


def _settled(epochs: Sequence[float]) -> float:
    return statistics.median(epochs[UNSETTLED:])


@contextmanager
def _script(case: Case, data: Path) -> Iterator[Any]:
    """Start the script; what is given fits once more, and returns the seconds of the epochs."""
    numbers = map(str, (case.epochs, case.batch_size, case.steps_per_execution))
    command = [sys.executable, "-m", "benchmarks.plain_trainer", case.name, str(data), *numbers]
    with ExitStack() as closing:
        process = closing.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        given, said = process.stdin, process.stdout
        closing.callback(given.close)  # which ends it
        if said.readline() != "ready\n":
            raise SystemExit(f"{' '.join(command)} did not start")

        def fit() -> list[float]:
            given.write("\n")
            given.flush()
            times: list[float] = json.loads(said.readline())
            return times

        yield fit


def _data(case: Case, folder: Path, most: int) -> Path:
    path = folder / f"{case.name}.npz"
    if case.name == "cnn":
        write_digits(path)
        return path
    rows = min(case.rows, most)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, 20)).astype(np.float32)
    np.savez(path, x=x, y=(x[:, 0] * x[:, 1] > 0).astype(np.int64))
    return path


if __name__ == "__main__":
    sys.exit(main())
