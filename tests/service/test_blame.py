"""Which silent ends count against a job, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.blame import RETRY_FIRST_S, RETRY_LONGEST_S, Silence, back_off_s, judge

CRASHED = Silence(began=True, frozen=False, left=False, unheard=False, further=False)


@pytest.mark.parametrize(
    ("silence", "counted", "reason"),
    [
        (CRASHED, True, "its process died"),
        (replace(CRASHED, unheard=True), True, "its process died"),
        (replace(CRASHED, further=True), False, "its process died, after a new checkpoint"),
        (replace(CRASHED, left=True, unheard=True), False, "no heartbeat reached it"),
        # Each heartbeat was sent in time: it held Python's lock, and so it will the next time.
        (replace(CRASHED, left=True), True, "its process let no heartbeat in for most of its lease"),
        (replace(CRASHED, left=True, further=True), False, "its process died, after a new checkpoint"),
        (replace(CRASHED, frozen=True), False, "its process was frozen"),
        (replace(CRASHED, began=False), False, "its process died before it began"),
        (replace(CRASHED, began=False, left=True), False, "its process died before it began"),
    ],
)
def test_only_what_a_job_does_by_itself_and_to_no_avail_counts(
    silence: Silence, counted: bool, reason: str
) -> None:
    verdict = judge(silence)
    assert (verdict.counted, verdict.reason) == (counted, reason)


def test_what_died_before_it_began_waits_for_another_host() -> None:
    assert judge(replace(CRASHED, began=False)).wait_s == RETRY_FIRST_S
    assert judge(CRASHED).wait_s == 0


def test_a_back_off_doubles_up_to_its_longest() -> None:
    assert [back_off_s(deaths) for deaths in (0, 1, 2)] == [5, 10, 20]
    assert back_off_s(50) == RETRY_LONGEST_S
