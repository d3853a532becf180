"""The negative control: does the overlap detector detect, and is it the child's lease that prevents overlaps?

The same attack twice: a worker is frozen past its lease while its child trains, another worker takes the job
over, and the frozen one is thawed. First with children that don't obey their lease, where the detector has to
find overlaps; then with the product as it is, where it must find none.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults import evidence
from tests.faults.customer import Customer, wait_until_read
from tests.faults.evidence import Overlap
from tests.faults.fleet import LEASE_S, Fleet, signal_quietly
from tests.faults.journal import Board, Journal, Sighting
from tests.faults.mayhem import wait_tick
from tests.faults.run import home
from tests.faults.specs import digits, specs

ROUNDS = 2
SLOW_STEP_S = 0.15
"""So long every training step takes besides: an attempt is to last longer than a lease."""
WITHIN_S = 60.0


@dataclass
class Part:
    """What came of one of the two."""

    takeovers: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def control(seed: int, say: Callable[[str], None]) -> int:
    """Run both parts; 1 when the detector missed an overlap, or found one that can't be."""
    off = _attack(seed, lease=False)
    say(_sentence("child lease off", off))
    for overlap in off.overlaps:
        say(f"  {overlap}")
    on = _attack(seed, lease=True)
    say(_sentence("child lease on", on))
    for overlap in on.overlaps:
        say(f"  {overlap}")
    good = bool(off.overlaps) and not on.overlaps and on.takeovers == ROUNDS and not off.left + on.left
    say("the detector detects" if good else "THE CONTROL FAILED")
    return 0 if good else 1


def _sentence(name: str, part: Part) -> str:
    return (
        f"control, {name}: takeovers {part.takeovers}, overlaps {len(part.overlaps)}, left {part.left or 0}"
    )


def _attack(seed: int, *, lease: bool) -> Part:
    part = Part()
    witnessed = {"PYTHON_FAULTS_SLOW_STEP_S": str(SLOW_STEP_S)}
    if not lease:
        witnessed["PYTHON_FAULTS_CONTROL"] = "1"
    with home(None) as folder:
        fleet = Fleet(folder, random.Random(seed), witnessed=witnessed)
        journal, board = Journal(fleet.journal), Board()
        try:
            fleet.start()
            wait_until_read(fleet.apis[0], fleet.token, digits())
            for number in range(ROUNDS):
                customer = Customer(
                    fleet.apis,
                    fleet.token,
                    specs()[:1],
                    seed + number,
                    wants_more=lambda accepted: not accepted,
                )
                customer.start()
                part.takeovers += _take_over(fleet, journal, board)
                customer.leave()
        finally:
            part.left = fleet.stop()
        journal.read_on()
        part.overlaps = evidence.overlaps(journal.lines)
    return part


def _take_over(fleet: Fleet, journal: Journal, board: Board) -> bool:
    """Freeze the worker of a new attempt until another works on the job, and for a moment more."""
    before = set(board.sightings)
    first = _await(fleet, journal, board, lambda seen: _key(seen) not in before and seen.phase == "training")
    if first is None or first.worker is None:
        return False
    signal_quietly(first.worker, signal.SIGSTOP)
    second = _await(
        fleet,
        journal,
        board,
        lambda seen: (
            seen.job == first.job and seen.attempt > first.attempt and seen.phase not in ("starting", None)
        ),
    )
    wait_until = time.monotonic() + LEASE_S / 4
    while time.monotonic() < wait_until:
        board.see(journal.read_on())
        wait_tick()
    signal_quietly(first.worker, signal.SIGCONT)
    return second is not None


def _await(
    fleet: Fleet, journal: Journal, board: Board, wanted: Callable[[Sighting], bool]
) -> Sighting | None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        fleet.tend()
        board.see(journal.read_on())
        found = next((seen for seen in board.sightings.values() if wanted(seen)), None)
        if found is not None:
            return found
        wait_tick()
    return None


def _key(seen: Sighting) -> tuple[str, int]:
    return seen.job, seen.attempt
