"""The verdict: what the journal, the records and the store say of a run, each against what was promised.

Every function returns sentences, one for each thing that is not as it should be; none is good.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Table, create_engine, select

from service.jobs import MOVES, Status
from service.records import tables
from serving.store import Store
from tests.faults.journal import Line

WEIGHTS = "assets.extra/model.weights.h5"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """All that the records say of the training jobs, by table; read once, when all is over."""

    jobs: Sequence[Row]
    transitions: Sequence[Row] = ()
    events: Sequence[Row] = ()
    points: Sequence[Row] = ()
    versions: Sequence[Row] = ()

    @staticmethod
    def read(url: str) -> Recorded:
        engine = create_engine(url)

        def rows(table: Table, *order: str) -> list[Row]:
            with engine.connect() as connection:
                found = connection.execute(select(table).order_by(*(table.c[name] for name in order)))
                return [dict(row) for row in found.mappings()]

        try:
            return Recorded(
                jobs=[row for row in rows(tables.jobs, "seq") if row["kind"] == "train"],
                transitions=rows(tables.transitions, "job_id", "n"),
                events=rows(tables.events, "job_id", "n"),
                points=rows(tables.curve_points, "job_id", "epoch", "step"),
                versions=rows(tables.versions, "model", "number"),
            )
        finally:
            engine.dispose()


@dataclass(frozen=True)
class Overlap:
    """An attempt that was still at work when a later one of the same job had begun."""

    job: str
    earlier: int
    later: int
    began: Line
    last: Line

    def __str__(self) -> str:
        return (
            f"{self.job}: attempt {self.earlier} was at work for {self.last.t - self.began.t:.3f} s after "
            f"attempt {self.later} had begun\n    {self.began}\n    {self.last}"
        )


def overlaps(lines: Iterable[Line]) -> list[Overlap]:
    """The pairs of attempts that worked at the same time; the journal's words of children alone count."""
    first: dict[tuple[str, int], Line] = {}
    last: dict[tuple[str, int], Line] = {}
    for line in lines:
        if line.who != "child" or line.job is None or line.attempt is None:
            continue
        key = (line.job, line.attempt)
        if key not in first or line.t < first[key].t:
            first[key] = line
        if key not in last or line.t > last[key].t:
            last[key] = line
    found = []
    for earlier, later in itertools.permutations(sorted(first), 2):
        if earlier[0] == later[0] and earlier[1] < later[1] and last[earlier].t > first[later].t:
            found.append(Overlap(earlier[0], earlier[1], later[1], first[later], last[earlier]))
    return found


def twice_begun(lines: Iterable[Line]) -> list[str]:
    """Attempts that two processes worked on."""
    pids: dict[tuple[str, int], set[int]] = defaultdict(set)
    for line in lines:
        if line.who == "child" and line.what == "begin" and line.job is not None and line.attempt is not None:
            pids[line.job, line.attempt].add(line.pid)
    return [
        f"{job} attempt {attempt} was begun by the processes {sorted(found)}"
        for (job, attempt), found in pids.items()
        if len(found) > 1
    ]


def lost(accepted: Mapping[str, str], recorded: Recorded) -> list[str]:
    """Jobs that were answered with 202 (key to job) and did not succeed, or that nobody asked for."""
    known = {row["id"]: row for row in recorded.jobs}
    found = []
    for key, job in accepted.items():
        row = known.get(job)
        if row is None:
            found.append(f"{job} ({key}) was accepted and is not in the records")
        elif row["status"] != Status.SUCCEEDED.value:
            found.append(f"{job} ({key}) is {row['status']}, not succeeded: {row['error']}")
    unasked = known.keys() - set(accepted.values())
    return [*found, *(f"{job} is in the records, and no 202 named it" for job in sorted(unasked))]


def illegal_moves(recorded: Recorded) -> list[str]:
    """Transitions that no job may make, or that are numbered with gaps."""
    found = []
    for job, rows in _by_job(recorded.transitions, of=recorded.jobs).items():
        states = [Status(row["status"]) for row in rows]
        if [row["n"] for row in rows] != list(range(1, len(rows) + 1)):
            found.append(f"{job}: its transitions are numbered {[row['n'] for row in rows]}")
        if not states or states[0] is not Status.QUEUED or not states[-1].is_terminal:
            found.append(f"{job}: its transitions are {[state.value for state in states]}")
        found += [
            f"{job}: it went from {here.value} to {there.value}"
            for here, there in itertools.pairwise(states)
            if there not in MOVES[here]
        ]
    return found


def event_gaps(recorded: Recorded, kept: Mapping[tuple[str, int], Sequence[Row]]) -> list[str]:
    """Events that are lost, doubled or out of order.

    `kept` is what each attempt's child wrote to its own disk, by job and attempt: a child's event is lost if
    it is there and not in the records. A point of the curves that an earlier attempt told is told once.
    """
    found = []
    last = {row["id"]: row["last_event"] for row in recorded.jobs}
    by_job = _by_job(recorded.events, of=recorded.jobs)
    for job, rows in by_job.items():
        numbers = [row["n"] for row in rows]
        if numbers != list(range(1, last[job] + 1)):
            absent = sorted(set(range(1, last[job] + 1)) - set(numbers))
            found.append(f"{job}: {last[job]} events, {len(numbers)} stored; absent: {absent[:10]}")
        by_attempt: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            if row["child_n"] is not None:
                by_attempt[row["attempt"]].append(row["child_n"])
        for attempt, told in by_attempt.items():
            if told != sorted(set(told)):
                found.append(f"{job} attempt {attempt}: its child's events come as {told}")
    for (job, attempt), lines in kept.items():
        stored = {row["child_n"] for row in by_job.get(job, ()) if row["attempt"] == attempt}
        points = {
            (row["data"]["epoch"], row["data"]["step"])
            for row in by_job.get(job, ())
            if row["kind"] == "metric"
        }
        for line in lines:
            if line["event"] == "outcome" or line["n"] in stored:
                continue
            if line["event"] == "metric" and (line["data"]["epoch"], line["data"]["step"]) in points:
                continue
            found.append(f"{job} attempt {attempt}: event {line['n']} ({line['event']}) was never stored")
    return found


def kept_events(jobs_folder: Path, jobs: Iterable[str]) -> dict[tuple[str, int], list[Row]]:
    """The events that children kept on disk; a line that a kill cut short was never told."""
    found = {}
    for job in jobs:
        for file in sorted((jobs_folder / job).glob("attempt-*/events.jsonl")):
            whole = file.read_bytes().split(b"\n")[:-1]
            found[job, int(file.parent.name.removeprefix("attempt-"))] = [json.loads(line) for line in whole]
    return found


def broken_curves(recorded: Recorded, alike: Mapping[str, str]) -> list[str]:
    """Learning curves that miss an epoch or have one twice, or differ between jobs of one spec and seed.

    `alike` maps a job to a name that all jobs of its spec and seed share.
    """
    found = []
    first: dict[str, tuple[str, list[Any]]] = {}
    done = [row for row in recorded.jobs if row["status"] == Status.SUCCEEDED.value]
    events = _by_job((row for row in recorded.events if row["kind"] == "metric"), of=done)
    for job, rows in _by_job(recorded.points, of=done).items():
        epochs = [row["epoch"] for row in rows]
        if not epochs or epochs != list(range(1, len(epochs) + 1)):
            found.append(f"{job}: its curve has the epochs {epochs}")
        told = [(row["data"]["epoch"], row["data"]["step"]) for row in events[job]]
        if told != [(row["epoch"], row["step"]) for row in rows]:
            found.append(f"{job}: its metric events are {told}, its curve is {epochs}")
        curve = [(row["epoch"], row["step"], row["metrics"]) for row in rows]
        other, known = first.setdefault(alike.get(job, job), (job, curve))
        if curve != known:
            found.append(f"{job}: its learning curve differs from {other}'s, of the same spec and seed")
    return found


def published_twice(recorded: Recorded, store: Store) -> list[str]:
    """Jobs without exactly one version, folders that are nobody's version, and damaged versions."""
    found = []
    numbers: dict[str, set[int]] = defaultdict(set)
    by_job: dict[str, list[Row]] = defaultdict(list)
    succeeded = {row["id"] for row in recorded.jobs if row["status"] == Status.SUCCEEDED.value}
    # A number that a job reserved and never came to publish stays its own: it is a version of nothing.
    versions = [
        row for row in recorded.versions if row["status"] == "published" or row["job_id"] in succeeded
    ]
    for row in versions:
        by_job[row["job_id"]].append(row)
        numbers[row["model"]].add(row["number"])
        if row["status"] != "published":
            found.append(f"version {row['number']} of {row['model']} is only {row['status']}")
    found += [f"{job} has {len(by_job[job])} versions" for job in sorted(succeeded) if len(by_job[job]) != 1]
    if not store.root.exists():
        return found
    holders: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(path for path in store.root.iterdir() if path.is_dir()):
        for entry in sorted(folder.iterdir()):
            if not entry.name.isdigit() or int(entry.name) not in numbers[folder.name]:
                found.append(f"{folder.name}/{entry.name} is in the store and is no version")
                continue
            holders[store.manifest(folder.name, int(entry.name)).job_id].append(f"{folder.name}/{entry.name}")
            if changed := store.verify(folder.name, int(entry.name)):
                found.append(f"{folder.name}/{entry.name} is damaged: {changed}")
    found += [f"{job} is named by {names}" for job, names in holders.items() if len(names) > 1]
    for row in versions:
        if f"{row['model']}/{row['number']}" not in holders[row["job_id"]]:
            found.append(f"version {row['number']} of {row['model']} ({row['job_id']}) is not in the store")
    return found


def differing_weights(recorded: Recorded, store: Store, alike: Mapping[str, str]) -> list[str]:
    """Versions whose weights are not, to the bit, those of the other jobs of the same spec and seed."""
    found = []
    first: dict[str, tuple[str, str]] = {}
    for row in recorded.versions:
        group = alike.get(row["job_id"])
        if group is None or row["status"] != "published":
            continue
        digest = digest_of_weights(store.root / row["model"] / str(row["number"]) / WEIGHTS)
        other, known = first.setdefault(group, (row["job_id"], digest))
        if digest != known:
            found.append(f"{row['job_id']}: its weights differ from {other}'s, of the same spec and seed")
    return found


def digest_of_weights(file: Path) -> str:
    """A digest of the model's arrays with their names; the optimizer's, which may lie beside, left out."""
    import h5py

    whole = hashlib.sha256()
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "optimizer" not in name.split("/"):
            arrays[name] = np.asarray(item)

    with h5py.File(file) as stored:
        stored.visititems(visit)
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return whole.hexdigest()


@dataclass
class Verdict:
    """Everything that was found wrong, by what was promised."""

    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, promise: str, found: Iterable[object]) -> None:
        self.faults.setdefault(promise, []).extend(map(str, found))

    @property
    def counts(self) -> dict[str, int]:
        return {promise: len(found) for promise, found in self.faults.items()}

    @property
    def holds(self) -> bool:
        return not any(self.faults.values())


def _by_job(rows: Iterable[Row], *, of: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each of these jobs, none for a job without any."""
    grouped: dict[str, list[Row]] = {row["id"]: [] for row in of}
    for row in rows:
        if row["job_id"] in grouped:
            grouped[row["job_id"]].append(row)
    return grouped
