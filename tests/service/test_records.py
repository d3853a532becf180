"""The record of truth, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.errors import IdempotencyConflictError, NameTakenError
from service.jobs import EventKind, Kind, Limits, NewJob, SlotKind, Status
from service.records import ChildEvent, Claim, JobFilter, Records
from service.records.database import Instant
from service.records.tables import metadata

LEASE_S = 30.0
MANIFEST = {"metrics": {"test": {"accuracy": 0.9}}}


def new(name: str = "digits", **values) -> NewJob:
    return NewJob(kind=Kind.TRAIN, spec={"name": name}, name=name, **values)


def claim(records: Records, owner: str = "w1", lease_s: float = LEASE_S) -> Claim:
    found = records.claims.claim_next(SlotKind.DEVICE, owner, lease_s)
    assert found is not None
    return found


def progress(n: int, **data) -> ChildEvent:
    return ChildEvent(n, EventKind.PROGRESS, data, time.time())


def metric(n: int, epoch: int) -> ChildEvent:
    data = {"epoch": epoch, "step": epoch * 10, "metrics": {"loss": 1.0 / epoch}}
    return ChildEvent(n, EventKind.METRIC, data, time.time())


def test_the_migrations_make_the_tables_that_the_code_reads(records: Records) -> None:
    with records.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_created_job_waits_and_says_so(records: Records) -> None:
    job = records.jobs.create(new(labels={"team": "a"}, seed=7))
    assert job.status is Status.QUEUED
    assert records.jobs.get(job.id) == job
    assert [each.data["status"] for each in records.jobs.events(job.id)] == ["queued"]
    assert [each.status for each in records.jobs.transitions(job.id)] == [Status.QUEUED]


def test_a_repeated_key_answers_with_the_first_job(records: Records) -> None:
    first = records.jobs.create(new(), idempotency_key="k", body_digest="d1")
    assert records.jobs.create(new(), idempotency_key="k", body_digest="d1").id == first.id
    with pytest.raises(IdempotencyConflictError):
        records.jobs.create(new(), idempotency_key="k", body_digest="d2")


def test_twenty_posts_at_once_with_one_key_make_one_job(records: Records) -> None:
    def post(_: int) -> str:
        return records.jobs.create(new(), idempotency_key="k", body_digest="d").id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(post, range(20)))) == 1
    assert len(records.jobs.page(JobFilter(), before_seq=None, limit=100)) == 1


def test_the_best_waiting_job_is_claimed_first(records: Records) -> None:
    low, first, second = (
        records.jobs.create(new(priority=-1)),
        records.jobs.create(new()),
        records.jobs.create(new()),
    )
    high = records.jobs.create(new(priority=5))
    assert records.jobs.queue_place(second).position == 3
    order = [claim(records).job.id for _ in range(4)]
    assert order == [high.id, first.id, second.id, low.id]
    assert records.claims.claim_next(SlotKind.DEVICE, "w", LEASE_S) is None


def test_a_short_slot_never_takes_a_training_job(records: Records) -> None:
    records.jobs.create(new())
    assert records.claims.claim_next(SlotKind.SHORT, "w", LEASE_S) is None


def test_workers_that_claim_at_once_never_get_the_same_job(records: Records) -> None:
    made = {records.jobs.create(new()).id for _ in range(12)}
    start = threading.Barrier(6)

    def work(number: int) -> list[str]:
        start.wait()
        got = []
        while found := records.claims.claim_next(SlotKind.DEVICE, f"w{number}", LEASE_S):
            got.append(found.job.id)
        return got

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for got in pool.map(work, range(6)) for job_id in got]
    assert sorted(taken) == sorted(made)


def test_events_are_numbered_without_gaps_and_stored_once(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    assert records.claims.append(held, [progress(1, epoch=1), metric(2, 1)])
    assert records.claims.append(held, [progress(1, epoch=1), metric(2, 1), progress(3, epoch=2)])
    events = records.jobs.events(job.id)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    kinds = [event.kind.value for event in events]
    assert kinds == ["status", "status", "progress", "metric", "progress"]
    assert records.jobs.get(job.id).progress == {"epoch": 2}


def test_a_diagnosis_of_the_data_pipeline_stays_beside_the_progress_until_the_next(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    first, second = ({"verdict": verdict, "advice": []} for verdict in ("input_bound", "balanced"))
    assert records.claims.append(held, [progress(1, epoch=1, pipeline=first), progress(2, epoch=2)])
    now = records.jobs.get(job.id)
    assert (now.progress, now.pipeline) == ({"epoch": 2}, first)
    assert records.claims.append(held, [progress(3, pipeline=second)])
    now = records.jobs.get(job.id)
    assert (now.progress, now.pipeline) == ({"epoch": 2}, second)
    assert records.jobs.events(job.id)[-1].data == {"pipeline": second}


def test_a_second_attempt_adds_no_point_of_the_curves_twice(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    records.claims.append(held, [metric(1, 1), metric(2, 2)])
    assert records.claims.put_back(held, reason="its worker is leaving")
    again = claim(records)
    assert again.job.attempt == 2
    records.claims.append(again, [metric(1, 2), metric(2, 3)])
    assert [point["epoch"] for point in records.jobs.curves(job.id)] == [1, 2, 3]
    told = [event.data["epoch"] for event in records.jobs.events(job.id) if event.kind == "metric"]
    assert told == [1, 2, 3]


def test_leftovers_of_a_dead_attempt_are_stored_under_its_number(records: Records) -> None:
    job = records.jobs.create(new())
    first = claim(records)
    records.claims.append(first, [progress(1, epoch=1)])
    records.claims.put_back(first, reason="its worker stopped answering")
    second = claim(records)
    records.claims.append(second, [progress(1, epoch=1), progress(2, epoch=2)], attempt=1)
    told = [(event.attempt, event.data) for event in records.jobs.events(job.id) if event.kind == "progress"]
    assert told == [(1, {"epoch": 1}), (1, {"epoch": 2})]


def test_a_fenced_claim_writes_nothing(records: Records) -> None:
    job = records.jobs.create(new())
    stale = claim(records, lease_s=-1.0)
    records.recovery.recover()
    assert records.recovery.unrung(ring_after_s=10) == [job.id]
    fresh = claim(records)
    assert fresh.token > stale.token
    assert not records.claims.append(stale, [progress(1)])
    assert records.claims.beat(stale, LEASE_S) is None
    assert not records.claims.finish(stale, Status.SUCCEEDED)
    assert not records.claims.put_back(stale, reason="x")
    assert records.versions.reserve(stale, "digits") is None
    assert records.jobs.get(job.id).status is Status.RUNNING


def test_a_lease_that_lives_is_left_alone(records: Records) -> None:
    records.jobs.create(new())
    held = claim(records)
    records.recovery.recover()
    assert records.recovery.unrung(ring_after_s=10) == []
    assert records.claims.beat(held, LEASE_S).cancel_requested is False


def test_a_reboot_of_the_host_ends_every_lease(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock begins anew; with SQLite, whoever held a lease was on that host."""
    job = records.jobs.create(new())
    claim(records)
    monkeypatch.setattr(records.database, "now", lambda _: Instant(1.0, "the next boot"))
    records.recovery.recover()
    assert records.jobs.get(job.id).status is Status.QUEUED


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_stepped_wall_clock_ends_no_lease_and_no_wait(
    records: Records, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    waiting = records.jobs.create(new(limits=Limits(max_pending_s=60), priority=-1))
    job = records.jobs.create(new())
    held = claim(records)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step_s)
    records.recovery.recover()
    assert records.claims.beat(held, LEASE_S) is not None
    assert records.jobs.get(job.id).status is Status.RUNNING
    assert records.jobs.get(waiting.id).status is Status.QUEUED


def test_a_lost_lease_goes_back_to_the_queue_with_its_reason(records: Records) -> None:
    job = records.jobs.create(new())
    claim(records, lease_s=-1.0)
    records.recovery.recover()
    last = records.jobs.transitions(job.id)[-1]
    assert (last.status, last.reason) == (Status.QUEUED, "its worker stopped answering")
    assert records.jobs.get(job.id).deaths == 0


def test_a_waiting_job_is_rung_for_again_only_after_a_while(records: Records) -> None:
    job = records.jobs.create(new())
    assert records.recovery.unrung(ring_after_s=10) == [job.id]
    records.recovery.rung([job.id])
    assert records.recovery.unrung(ring_after_s=10) == []
    assert records.recovery.unrung(ring_after_s=0) == [job.id]


def test_cancelling_a_waiting_job_ends_it_at_once(records: Records) -> None:
    job = records.jobs.create(new())
    assert records.jobs.cancel(job.id).status is Status.CANCELLED
    assert records.jobs.cancel(job.id).status is Status.CANCELLED
    assert records.claims.claim_next(SlotKind.DEVICE, "w", LEASE_S) is None


def test_cancelling_a_running_job_reaches_its_next_beat_and_can_lose_to_success(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    assert records.jobs.cancel(job.id).status is Status.CANCELLING
    assert records.claims.beat(held, LEASE_S).cancel_requested
    assert records.claims.finish(held, Status.SUCCEEDED)
    assert records.jobs.cancel(job.id).status is Status.SUCCEEDED


def test_a_cancelled_job_that_loses_its_worker_ends_cancelled(records: Records) -> None:
    job = records.jobs.create(new())
    claim(records, lease_s=-1.0)
    records.jobs.cancel(job.id)
    records.recovery.recover()
    assert records.jobs.get(job.id).status is Status.CANCELLED


def test_a_cancelled_job_that_is_put_back_ends_cancelled(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    records.jobs.cancel(job.id)
    assert records.claims.put_back(held, reason="its worker is leaving")
    assert records.jobs.get(job.id).status is Status.CANCELLED


def test_a_version_number_is_reserved_once_a_job_and_counts_up(records: Records) -> None:
    for expected in (1, 2, 3):
        records.jobs.create(new())
        held = claim(records)
        assert records.versions.reserve(held, "digits") == expected
        assert records.versions.reserve(held, "digits") == expected


def test_numbers_reserved_at_once_are_all_different(records: Records) -> None:
    held = []
    for _ in range(8):
        records.jobs.create(new())
        held.append(claim(records))
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda each: records.versions.reserve(each, "digits"), held))
    assert sorted(numbers) == list(range(1, 9))


def test_publishing_marks_version_and_job_together(records: Records) -> None:
    job = records.jobs.create(new())
    held = claim(records)
    number = records.versions.reserve(held, "digits")
    assert records.versions.numbers() == {}
    assert records.versions.published(held, number=number, manifest=MANIFEST, result={"version": number})
    assert records.jobs.get(job.id).status is Status.SUCCEEDED
    assert records.versions.numbers() == {"digits": [1]}
    assert records.versions.get("digits", 1).manifest == MANIFEST
    assert [event.kind.value for event in records.jobs.events(job.id)][-2:] == ["version", "status"]
    assert not records.versions.published(held, number=number, manifest=MANIFEST, result={})


def test_lists_are_filtered_and_go_on_where_they_stopped(records: Records) -> None:
    jobs = [records.jobs.create(new(name=f"m{n % 2}", labels={"n": str(n)})) for n in range(5)]
    where = JobFilter(model="m0")
    first = records.jobs.page(where, before_seq=None, limit=2)
    rest = records.jobs.page(where, before_seq=first[-1].seq, limit=2)
    assert [job.id for job in [*first, *rest]] == [jobs[4].id, jobs[2].id, jobs[0].id]
    assert [job.id for job in records.jobs.page(JobFilter(label=("n", "3")), before_seq=None, limit=9)] == [
        jobs[3].id
    ]


def test_a_data_set_name_belongs_to_one_content(records: Records) -> None:
    first = records.datasets.create(
        dataset_id="ds_1", name="digits", digest="sha256:a", size_bytes=1, filename="d.npz"
    )
    again = records.datasets.create(
        dataset_id="ds_2", name="digits", digest="sha256:a", size_bytes=1, filename="d.npz"
    )
    assert again.id == first.id
    with pytest.raises(NameTakenError):
        records.datasets.create(
            dataset_id="ds_3", name="digits", digest="sha256:b", size_bytes=1, filename="d.npz"
        )


def test_workers_are_present_only_while_they_are_heard(records: Records) -> None:
    records.workers.seen("w1", {"slots": ["cpu"]})
    records.workers.seen("w1", {"slots": ["cpu", "short"]})
    assert [worker.capabilities["slots"] for worker in records.workers.present(within_s=5)] == [
        ["cpu", "short"]
    ]
    records.workers.gone("w1")
    assert records.workers.present(within_s=5) == []
