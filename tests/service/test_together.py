"""Group commit: one write for all that wait, and nobody pays for another's fault."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import DatabaseUnavailableError
from service.jobs import Kind, NewJob
from service.records import Records
from service.records.jobs import JobFilter
from service.records.together import Together
from tests.acceptance.stack import wait_for
from tests.service.workbench import new


class Slow:
    """Writes whole batches, each only when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, asked):
        self.batches.append(list(asked))
        self.go.acquire()
        if -1 in asked:
            raise ValueError("can't be written")
        if -2 in asked:
            raise DatabaseUnavailableError("away")
        return [10 * each for each in asked]


def ask_while_the_first_is_written(numbers: list[int]) -> tuple[Slow, list[object]]:
    slow = Slow()
    together = Together(slow)

    def ask(number: int) -> object:
        try:
            return together(number)
        except Exception as error:
            return type(error)

    with ThreadPoolExecutor(len(numbers) + 1) as pool:
        first = pool.submit(ask, 1)
        wait_for(lambda: slow.batches)
        rest = [pool.submit(ask, number) for number in numbers]
        wait_for(lambda: len(together._waiting) == len(numbers))
        slow.go.release(10)
        assert first.result() == 10
        return slow, [each.result() for each in rest]


def test_what_comes_in_during_a_write_is_written_by_the_next_in_one() -> None:
    slow, given = ask_while_the_first_is_written([2, 3, 4, 5])
    assert given == [20, 30, 40, 50]
    assert [sorted(batch) for batch in slow.batches] == [[1], [2, 3, 4, 5]]


def test_one_that_can_not_be_written_fails_alone() -> None:
    _, given = ask_while_the_first_is_written([2, -1, 3])
    assert given == [20, ValueError, 30]


def test_all_fail_when_the_database_is_away_and_are_not_tried_one_by_one() -> None:
    slow, given = ask_while_the_first_is_written([2, -2, 3])
    assert given == [DatabaseUnavailableError] * 3
    assert len(slow.batches) == 2


def test_jobs_submitted_at_once_are_rows_of_their_own_with_places_of_their_own(records: Records) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: records.jobs.submit(new()), range(24)))
    assert len({job.seq for job, _ in made}) == 24
    assert [place.position for _, place in sorted(made, key=lambda each: each[0].seq)] == list(range(1, 25))
    for job, _ in made:
        assert records.jobs.get(job.id) == job
        assert [event.n for event in records.jobs.events(job.id)] == [1]


def test_a_job_that_can_not_be_stored_keeps_no_other_from_it(records: Records) -> None:
    bad = NewJob(kind=Kind.TRAIN, spec={}, seed=2**70)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(records.jobs.submit, each) for each in (*[new() for _ in range(6)], bad)]
    assert sum(each.exception() is None for each in asked) == 6
    with pytest.raises(Exception, match=r"out of range|too large"):
        raise asked[-1].exception()
    assert len(records.jobs.page(JobFilter(), before_seq=None, limit=100)) == 6


def test_a_place_within_a_batch_counts_those_of_a_better_priority_in_it(records: Records) -> None:
    for priority in (0, 5):
        records.jobs.create(new(priority=priority))
    batch = [new(priority=priority) for priority in (0, 5, 0, 9, 5)] + [new(Kind.INGEST)]
    told = records.jobs._insert_all(batch)
    assert [place.position for _, place in told] == [6, 3, 7, 1, 4, 1]
    for job, place in told:
        assert records.jobs.queue_place(job) == place
