"""What the verdict must find in a run that went wrong, and that it finds nothing in one that went well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from serving.manifest import Manifest
from serving.store import Store
from tests.faults import evidence
from tests.faults.evidence import Recorded
from tests.faults.journal import Board, Journal, Line

JOB = "job_1"


def line(t: float, attempt: int | None = 1, what: str = "alive", who: str = "child", **values: Any) -> Line:
    return Line(
        t=t,
        pid=values.pop("pid", 100 + (attempt or 0)),
        who=who,
        what=what,
        job=values.pop("job", JOB),
        attempt=attempt,
        phase=values.pop("phase", "training"),
        facts=values,
    )


def job(**values: Any) -> dict[str, Any]:
    return {"id": JOB, "status": "succeeded", "error": None, "last_event": 3, **values}


def event(n: int, child_n: int | None = None, **values: Any) -> dict[str, Any]:
    return {"job_id": JOB, "n": n, "kind": "log", "attempt": 1, "child_n": child_n, "data": {}, **values}


def moves(*statuses: str) -> list[dict[str, Any]]:
    return [{"job_id": JOB, "n": n, "status": status} for n, status in enumerate(statuses, 1)]


def point(epoch: int, loss: float = 1.0, job_id: str = JOB) -> dict[str, Any]:
    return {"job_id": job_id, "epoch": epoch, "step": epoch * 10, "metrics": {"loss": loss}}


def metric(n: int, epoch: int, job_id: str = JOB) -> dict[str, Any]:
    return event(n, n, kind="metric", data={"epoch": epoch, "step": epoch * 10}, job_id=job_id)


def version(number: int = 1, **values: Any) -> dict[str, Any]:
    return {"model": "tiny", "number": number, "job_id": JOB, "status": "published", **values}


def publish(store: Store, job_id: str, number: int, weights: float | None = None) -> Path:
    staging = store.stage("tiny", job_id, 1)
    (staging / "saved_model.pb").write_bytes(b"graph")
    if weights is not None:
        write_weights(staging / evidence.WEIGHTS, weights)
    store.seal(staging, Manifest(model="tiny", job_id=job_id))
    return store.publish("tiny", job_id, 1, number)


def write_weights(path: Path, value: float, optimizer: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.full((2, 3), value, np.float32)
        file["optimizer/vars/0"] = np.float32(optimizer)


# Overlaps.


def test_attempts_one_after_the_other_do_not_overlap() -> None:
    assert evidence.overlaps([line(1.0), line(2.0), line(2.5, 2), line(3.0, 2)]) == []


def test_a_word_of_an_earlier_attempt_after_a_later_one_began_is_an_overlap() -> None:
    found = evidence.overlaps([line(1.0), line(2.5, 2, "begin"), line(2.6, 1, "step"), line(3.0, 2)])
    assert [(each.earlier, each.later, each.last.what) for each in found] == [(1, 2, "step")]


def test_attempts_of_different_jobs_may_work_side_by_side() -> None:
    assert evidence.overlaps([line(1.0), line(1.1, 2, job="job_2"), line(1.2)]) == []


def test_a_fenced_worker_that_thaws_does_not_train() -> None:
    assert evidence.overlaps([line(1.0), line(2.0, 2), line(2.1, 1, "leave", who="worker")]) == []


def test_two_processes_for_one_attempt_are_found() -> None:
    begun = [line(1.0, what="begin", pid=7), line(2.0, what="begin", pid=8)]
    assert len(evidence.twice_begun(begun)) == 1
    assert evidence.twice_begun(begun[:1]) == []


# Jobs.


def test_a_job_that_succeeded_is_not_lost() -> None:
    assert evidence.lost({"key": JOB}, Recorded(jobs=[job()])) == []


@pytest.mark.parametrize(
    ("accepted", "rows"),
    [
        ({"key": JOB}, []),
        ({"key": JOB}, [job(status="failed")]),
        ({"key": JOB}, [job(status="running")]),
        ({"key": JOB}, [job(), job(id="job_2")]),
    ],
)
def test_jobs_that_are_absent_unfinished_or_unasked_are_found(accepted, rows) -> None:
    assert len(evidence.lost(accepted, Recorded(jobs=rows))) == 1


def test_legal_moves_end_terminal() -> None:
    legal = moves("queued", "running", "queued", "running", "succeeded")
    assert evidence.illegal_moves(Recorded(jobs=[job()], transitions=legal)) == []


@pytest.mark.parametrize(
    "statuses",
    [("queued", "running"), ("running", "succeeded"), ("queued", "succeeded"), ()],
)
def test_illegal_moves_are_found(statuses) -> None:
    assert evidence.illegal_moves(Recorded(jobs=[job()], transitions=moves(*statuses)))


def test_a_move_after_the_end_is_found() -> None:
    after = moves("queued", "running", "succeeded", "running", "succeeded")
    assert evidence.illegal_moves(Recorded(jobs=[job()], transitions=after))


# Events.


def test_events_without_a_gap_are_good() -> None:
    told = [event(1), event(2, 1), event(3, 2)]
    kept = {(JOB, 1): [{"n": 1, "event": "log"}, {"n": 2, "event": "log"}, {"n": 3, "event": "outcome"}]}
    assert evidence.event_gaps(Recorded(jobs=[job()], events=told), kept) == []


@pytest.mark.parametrize(
    "told",
    [
        [event(1), event(3)],
        [event(1), event(2)],
        [event(1), event(2), event(2), event(3)],
        [event(1), event(2, 2), event(3, 1)],
        [event(1), event(2, 1), event(3, 1)],
    ],
)
def test_gaps_doubles_and_disorder_are_found(told) -> None:
    assert evidence.event_gaps(Recorded(jobs=[job()], events=told), {})


def test_an_event_that_only_the_childs_disk_knows_is_lost() -> None:
    told = [event(1), event(2, 1), event(3, 2)]
    kept = {(JOB, 1): [{"n": 3, "event": "log", "data": {}}]}
    assert len(evidence.event_gaps(Recorded(jobs=[job()], events=told), kept)) == 1


def test_a_point_that_an_earlier_attempt_told_is_not_lost() -> None:
    told = [event(1), metric(2, 1), event(3)]
    kept = {(JOB, 2): [{"n": 1, "event": "metric", "data": {"epoch": 1, "step": 10}}]}
    assert evidence.event_gaps(Recorded(jobs=[job()], events=told), kept) == []


def test_a_line_cut_short_on_the_childs_disk_was_never_told(tmp_path: Path) -> None:
    file = tmp_path / JOB / "attempt-2" / "events.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"n": 1}\n{"n": ')
    assert evidence.kept_events(tmp_path, [JOB]) == {(JOB, 2): [{"n": 1}]}


# Curves and weights.


def recorded_curves(*second: dict[str, Any]) -> Recorded:
    points = [point(1), point(2), *second]
    events = [metric(n, row["epoch"], row["job_id"]) for n, row in enumerate(points, 1)]
    return Recorded(jobs=[job(), job(id="job_2")], events=events, points=points)


ALIKE = {JOB: "spec 0", "job_2": "spec 0"}


def test_equal_whole_curves_are_good() -> None:
    good = recorded_curves(point(1, job_id="job_2"), point(2, job_id="job_2"))
    assert evidence.broken_curves(good, ALIKE) == []


@pytest.mark.parametrize(
    "second",
    [
        [point(1, job_id="job_2")],
        [point(1, job_id="job_2"), point(2, 0.5, job_id="job_2")],
        [point(2, job_id="job_2")],
        [],
    ],
)
def test_curves_that_end_early_differ_or_miss_an_epoch_are_found(second) -> None:
    assert evidence.broken_curves(recorded_curves(*second), ALIKE)


def test_weights_are_compared_to_the_bit_without_the_optimizers(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    write_weights(paths[0], 1.0)
    write_weights(paths[1], 1.0, optimizer=5.0)
    write_weights(paths[2], np.nextafter(np.float32(1.0), np.float32(2.0)))
    first, second, third = map(evidence.digest_of_weights, paths)
    assert first == second
    assert first != third


def test_versions_of_one_spec_with_other_weights_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, JOB, 1, weights=1.0)
    publish(store, "job_2", 2, weights=2.0)
    recorded = Recorded(jobs=[job(), job(id="job_2")], versions=[version(), version(2, job_id="job_2")])
    assert len(evidence.differing_weights(recorded, store, ALIKE)) == 1
    assert evidence.differing_weights(recorded, store, {JOB: "spec 0", "job_2": "spec 1"}) == []


# The store.


def test_one_version_a_job_is_good(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, JOB, 1)
    assert evidence.published_twice(Recorded(jobs=[job()], versions=[version()]), store) == []


def test_a_second_folder_of_a_job_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, JOB, 1)
    publish(store, JOB, 2)
    found = evidence.published_twice(Recorded(jobs=[job()], versions=[version()]), store)
    assert found == ["tiny/2 is in the store and is no version"]


def test_a_second_row_of_a_job_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, JOB, 1)
    publish(store, JOB, 2)
    twice = Recorded(jobs=[job()], versions=[version(), version(2)])
    assert evidence.published_twice(twice, store) == [
        f"{JOB} has 2 versions",
        f"{JOB} is named by ['tiny/1', 'tiny/2']",
    ]


def test_a_success_without_a_version_is_found(tmp_path: Path) -> None:
    assert evidence.published_twice(Recorded(jobs=[job()]), Store(tmp_path / "none"))


def test_a_version_without_a_folder_is_found(tmp_path: Path) -> None:
    assert evidence.published_twice(Recorded(jobs=[job()], versions=[version()]), Store(tmp_path))


def test_a_number_that_a_failed_job_reserved_is_no_version(tmp_path: Path) -> None:
    only_reserved = [version(status="reserved")]
    failed = Recorded(jobs=[job(status="failed")], versions=only_reserved)
    assert evidence.published_twice(failed, Store(tmp_path)) == []
    assert evidence.published_twice(Recorded(jobs=[job()], versions=only_reserved), Store(tmp_path))


def test_staging_left_behind_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, JOB, 1)
    store.stage("tiny", JOB, 2)
    found = evidence.published_twice(Recorded(jobs=[job()], versions=[version()]), store)
    assert found == [f"tiny/.staging-{JOB}-2 is in the store and is no version"]


def test_a_damaged_version_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (publish(store, JOB, 1) / "saved_model.pb").write_bytes(b"other")
    found = evidence.published_twice(Recorded(jobs=[job()], versions=[version()]), store)
    assert found == ["tiny/1 is damaged: ['saved_model.pb']"]


# The journal.


def test_a_line_half_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = json.dumps(
        {"t": 1, "pid": 2, "who": "child", "what": "step", "job": JOB, "attempt": 1, "phase": "training"}
    )
    path.write_text(whole[:20])
    journal = Journal(path)
    assert journal.read_on() == []
    path.write_text(whole + "\n")
    assert [each.what for each in journal.read_on()] == ["step"]
    assert journal.read_on() == []


def test_the_phase_that_counts_is_the_last_one_before_the_strike() -> None:
    board = Board()
    board.see([line(1.0, what="enter"), line(2.0, what="enter", phase="checkpointing"), line(2.1)])
    seen = board.sightings[JOB, 1]
    assert [seen.phase_at(t)[0] for t in (0.5, 1.5, 2.05)] == ["starting", "training", "checkpointing"]


def test_an_attempt_that_fell_silent_or_is_over_was_not_hit() -> None:
    board = Board()
    board.see([line(1.0), line(2.0, what="leave", who="worker", phase=None, left="publishing")])
    seen = board.sightings[JOB, 1]
    assert seen.heard_before(1.5) == 1.0
    assert seen.heard_before(2.5) == 0.0
    assert board.live(2.05) == []


def test_a_child_waits_until_it_is_seen_with_a_job() -> None:
    board = Board()
    board.see([line(1.0, what="process", pid=7, job=None, attempt=None)])
    assert board.standbys == {7}
    board.see([line(2.0, what="begin", pid=7)])
    assert board.standbys == set()
