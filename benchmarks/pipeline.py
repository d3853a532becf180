"""What the data pipeline costs: overlap, CSV, data larger than memory, rows a second, advice followed.

Every case interleaves its sides. The sides are processes of their own where memory or imports would tell, and
functions of this one elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.feeding import FILES, WAYS, Way
from benchmarks.report import Figure, parser, show

INPUT_S, COMPUTE_S = 0.012, 0.020
OVERLAP, SECOND_EPOCH, FIRST_EPOCH, FEEDING, FOLLOWED = 1.10, 1 / 8, 1 / 3, 1 / 0.8, 2.0
BATCH = 1024
TIMES_HEADROOM = 4
CASES = ("overlap", "csv", "larger", "feeding", "advice")


def main() -> int:
    """Run the cases and print their figures."""
    options = parser(__doc__, rounds=9)
    options.add_argument("--only", action="append", choices=CASES, help="one case; may be repeated")
    options.add_argument("--rows", type=int, default=1_000_000, help="rows of the tables")
    options.add_argument("--headroom", type=int, default=512, help="MB of memory where data are larger")
    chosen = options.parse_args()
    wanted = chosen.only or CASES
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="fitserve-pipeline-") as name:
        folder = Path(name)
        if "overlap" in wanted:
            figures += _overlap(chosen.rounds)
        if "csv" in wanted:
            figures += _csv(folder, chosen.rows, chosen.rounds)
        if "feeding" in wanted:
            figures += _feeding(folder, chosen.rows, chosen.rounds)
        if "larger" in wanted:
            figures += _larger(folder, chosen.headroom << 20)
        if "advice" in wanted:
            figures += _advice(folder, chosen.rounds)
    return show("The data pipeline", figures, as_json=chosen.json)


def _overlap(rounds: int) -> list[Figure]:
    """A batch takes 12 ms to make and 20 ms to compute with; both sleep, so that cores don't matter.

    A job runs its first epoch step by step, and then as many steps in each call of TensorFlow as a quarter
    of a second holds.
    """
    from benchmarks.sleeping import not_read_ahead, read_ahead, ready, step_s
    from trainer.pace import CALL_AT_MOST_S

    later = int(CALL_AT_MOST_S / COMPUTE_S)
    sides: dict[str, tuple[Callable[[], Any], int]] = {
        "read ahead": (lambda: read_ahead(INPUT_S), later),
        "read ahead, first epoch": (lambda: read_ahead(INPUT_S), 1),
        "no input at all, first epoch": (ready, 1),
        "not read ahead, first epoch": (lambda: not_read_ahead(INPUT_S), 1),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (data, steps) in sides.items():
            found[name].append(step_s(data(), COMPUTE_S, steps_per_execution=steps))
    ratios = [s / max(INPUT_S, COMPUTE_S) for s in found["read ahead"]]
    return [
        *(Figure.of(f"a step, {name}", [1000 * s for s in values], "ms") for name, values in found.items()),
        Figure.of("step / max(input, compute)", ratios, "x", OVERLAP),
    ]


def _csv(folder: Path, rows: int, rounds: int) -> list[Figure]:
    """A CSV of 20 columns of floats, trained on through a job's own pipeline and through make_csv_dataset."""
    from benchmarks.csv_epochs import epochs_of_job, epochs_of_make_csv_dataset

    file = FILES["csv"](folder, rows)
    ours, theirs = [], []
    for number in range(rounds):
        ours.append(epochs_of_job(file, folder / f"job-{number}", BATCH))
        theirs.append(epochs_of_make_csv_dataset(file, BATCH))
    figures = []
    for epoch, target in enumerate((FIRST_EPOCH, SECOND_EPOCH)):
        says = f"CSV, {('opened, converted, first epoch', 'second epoch')[epoch]}"
        ratios = [a[epoch] / b[epoch] for a, b in zip(ours, theirs, strict=True)]
        figures += [
            Figure.of(says, [each[epoch] for each in ours], "s"),
            Figure.of(f"{says}, by make_csv_dataset", [each[epoch] for each in theirs], "s"),
            Figure.of(f"{says}, ours / theirs", ratios, "x", target),
        ]
    return figures


def _feeding(folder: Path, rows: int, rounds: int) -> list[Figure]:
    """Shuffled batches of 1024 rows into a step that does nothing, each way in its second epoch."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    opened: dict[str, Way] = {name: make(folder, rows, BATCH) for name, make in WAYS.items()}
    for way in opened.values():
        way()
    for _ in range(rounds):
        for name, way in opened.items():
            began = time.perf_counter()
            assert way() == rows
            found[name].append(rows / (time.perf_counter() - began))
    figures = [
        Figure.of(f"rows a second, {name}", [each / 1e6 for each in values], "M/s")
        for name, values in found.items()
    ]
    best = max(
        (figure for figure in figures if not figure.name.endswith(" ours")), key=lambda each: each.value
    )
    name = best.name.removeprefix("rows a second, ")
    ratios = [theirs / mine for theirs, mine in zip(found[name], found["ours"], strict=True)]
    return [*figures, Figure.of(f"{name} / ours", ratios, "x", FEEDING)]


def _larger(folder: Path, headroom: int) -> list[Figure]:
    """A Parquet file that decodes to four times what the process may still take, shuffled, to the end."""
    file = FILES["parquet"](folder, TIMES_HEADROOM * headroom // 80, "larger")
    order = {"file": str(file), "work": str(folder / "larger-work"), "headroom": headroom, "batch_size": 8192}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.larger"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    file.unlink()
    gib = 1 << 30
    return [
        Figure.of("larger than memory: the file, decoded", [told["decoded_bytes"] / gib], "GiB"),
        Figure.of("larger than memory: the process may hold", [told["cap_bytes"] / gib], "GiB"),
        Figure.of("larger than memory: it held at most", [told["peak_bytes"] / gib], "GiB"),
        Figure.of("larger than memory: peak / cap", [told["peak_bytes"] / told["cap_bytes"]], "x", 1.0),
        Figure.of("larger than memory: an epoch", [told["epoch_s"]], "s"),
    ]


def _advice(folder: Path, rounds: int) -> list[Figure]:
    """A job that decodes images in each epoch, then as its diagnosis advises; and one that computes much."""
    from benchmarks.stacks import client_of, running

    file = FILES["images"](folder, 2000)
    promised, got, verdicts = [], [], []
    with running(standby=False, data_roots=str(folder)) as (stack, _), client_of(stack) as client:
        client.upload(file, name="images")

        def diagnosis(cache: bool | str, layers: list[Mapping[str, Any]]) -> dict[str, Any]:
            job = client.wait(client.submit(_images(cache, layers)).id, timeout_s=300)
            if job.status != "succeeded":
                raise SystemExit(f"the job {job.status}: {job.error}")
            assert job.pipeline is not None
            return dict(job.pipeline)

        for _ in range(rounds):
            before, after = diagnosis(False, _SMALL), diagnosis("auto", _SMALL)
            promised.append(before["saves_ms"])
            got.append(before["step_ms"] - after["step_ms"])
            verdicts.append((before["verdict"], diagnosis("auto", _LARGE)["verdict"]))
    wrong = sum(pair != ("input-bound", "compute-bound") for pair in verdicts)
    return [
        Figure.of("two made jobs: wrong verdicts", [float(wrong)], "", 0.0),
        Figure.of("decoding in each epoch: a cache is said to save", promised, "ms"),
        Figure.of("decoding in each epoch: a cache saves", got, "ms"),
        Figure.of("promised / saved", [a / b for a, b in zip(promised, got, strict=True)], "x", FOLLOWED),
    ]


_LAST = {"class_name": "Dense", "config": {"units": 3, "activation": "softmax"}}
_SMALL: list[Mapping[str, Any]] = [
    {"class_name": "AveragePooling2D", "config": {"pool_size": 8}},
    {"class_name": "Flatten"},
    _LAST,
]
_LARGE: list[Mapping[str, Any]] = [
    {"class_name": "Conv2D", "config": {"filters": 32, "kernel_size": 5, "strides": 2}},
    {"class_name": "Conv2D", "config": {"filters": 32, "kernel_size": 3}},
    {"class_name": "GlobalAveragePooling2D"},
    _LAST,
]


def _images(cache: bool | str, layers: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": "images",
        "model": {"kind": "sequential", "layers": layers},
        "data": {
            "kind": "parquet",
            "uri": "dataset://images",
            "features": "image",
            "label": "y",
            "columns": {"image": {"kind": "image", "image_size": [64, 64]}},
            "pipeline": {"batch_size": 32, "cache": cache},
        },
        "compile": {"loss": "sparse_categorical_crossentropy", "steps_per_execution": 1},
        "fit": {"epochs": 3},
    }


if __name__ == "__main__":
    raise SystemExit(main())
