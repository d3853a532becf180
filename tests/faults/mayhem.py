"""Random kills and freezes, steered so that every phase of an attempt is hit."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from service.protocol import boot_clock
from tests.faults.fleet import LEASE_S, Fleet, signal_quietly
from tests.faults.journal import Board, Sighting

PHASES = ("training", "checkpointing", "exporting", "proving", "publishing")
IN_CHILD = PHASES[:-1]
GAPS = ("enter", "reserved", "reserved", "renamed", "renamed")
"""The last step of a publication before a strike: before the number, before the rename, before the row."""
WITH_CONVERTER = ("exporting", "proving")
HEARD_OF_WITHIN_S = 0.5
AIM_S = 1.5
LONGEST_AIM_S = 10.0
GAP_S = (0.1, 1.6)


@dataclass
class Strike:
    """One kill or freeze: what was struck and when, and what the journal says of the attempt it hit."""

    at: float
    kind: str
    job: str | None = None
    attempt: int | None = None
    phase: str | None = None
    word: str | None = None
    hit: bool = False

    def __str__(self) -> str:
        where = f" in {self.phase} ({self.word}) of {self.job} attempt {self.attempt}" if self.job else ""
        return f"{self.at:.3f} {self.kind}{where}"


@dataclass
class Mayhem:
    """Strikes one blow after the other; call `act` as often as possible."""

    fleet: Fleet
    board: Board
    dice: random.Random
    kills: int
    least_hits: int
    least_in_phase: int
    say: Callable[[str], None]
    strikes: list[Strike] = field(default_factory=list)
    _thaws: dict[int, float] = field(default_factory=dict)
    _frozen_for_good: set[int] = field(default_factory=set)
    _unresolved: list[Strike] = field(default_factory=list)
    _next_at: float = 0.0
    _moments: dict[tuple[str, int], str] = field(default_factory=dict)
    _aim: str | None = None
    _aimed_at: float = 0.0

    @property
    def kinds(self) -> Counter[str]:
        return Counter(each.kind for each in self.strikes)

    @property
    def phases(self) -> Counter[str]:
        return Counter(each.phase or "?" for each in self.strikes if each.hit)

    @property
    def gaps(self) -> Counter[str]:
        """Where in a publication the strikes landed, by the last thing done."""
        return Counter(each.word or "?" for each in self.strikes if each.hit and each.phase == "publishing")

    @property
    def hits(self) -> int:
        return sum(each.hit for each in self.strikes)

    @property
    def missing(self) -> dict[str, int]:
        """How many strikes each phase still needs."""
        return {
            phase: self.least_in_phase - self.phases[phase]
            for phase in PHASES
            if self.phases[phase] < self.least_in_phase
        }

    @property
    def enough(self) -> bool:
        """Whether all strikes that were asked for have been made."""
        return len(self.strikes) >= self.kills and self.hits >= self.least_hits and not self.missing

    def act(self, *, strike: bool = True) -> None:
        """Thaw what is due, judge the last strikes, and strike again if it is time."""
        now = boot_clock()
        for pid, due in list(self._thaws.items()):
            if now >= due:
                self.thaw(pid)
        self._resolve(now)
        if not strike or now < self._next_at:
            return
        if self._aim is None:
            self._aim, self._aimed_at = self._choose_aim(), now
        if self._aim == "services":
            self._strike_services(now)
            return
        targets = [each for each in self.board.live(now) if self._can_be_hit(each)]
        wanted = self._wanted(now - self._aimed_at)
        struck = [each for each in targets if each.phase in wanted and self._is_the_moment(each)]
        if struck:
            self._strike_attempt(self.dice.choice(struck), now)

    def _wanted(self, aimed_for_s: float) -> Collection[str]:
        """The phases that will do: the one aimed at, soon any that needs more strikes, in the end any.

        What has had its strikes is spared for a while: a job that always dies early never comes to the rest.
        """
        assert self._aim is not None
        if self._only_phases_are_missing:
            return self.missing
        if aimed_for_s < AIM_S:
            return (self._aim,)
        if self.missing and aimed_for_s < LONGEST_AIM_S:
            return self.missing
        return PHASES

    @property
    def _only_phases_are_missing(self) -> bool:
        return bool(self.missing) and len(self.strikes) >= self.kills and self.hits >= self.least_hits

    def thaw(self, pid: int) -> None:
        del self._thaws[pid]
        signal_quietly(pid, signal.SIGCONT)

    def end(self) -> None:
        """Thaw everything that is to be thawed at all, so that the rest can end."""
        for pid in list(self._thaws):
            self.thaw(pid)

    def _choose_aim(self) -> str:
        missing = self.missing
        if not self._only_phases_are_missing and self.dice.random() < 0.25:
            return "services"
        weights = [1 + 3 * missing.get(phase, 0) for phase in PHASES]
        return self.dice.choices(PHASES, weights)[0]

    def _can_be_hit(self, seen: Sighting) -> bool:
        pids = {seen.worker, seen.child if seen.phase != "publishing" else None}
        return not pids & (self._thaws.keys() | self._frozen_for_good)

    def _is_the_moment(self, seen: Sighting) -> bool:
        """Each publication is struck after a step drawn for it, so that every gap gets its strikes."""
        if seen.phase != "publishing":
            return True
        moment = self._moments.setdefault((seen.job, seen.attempt), self.dice.choice(GAPS))
        return seen.turns[-1][2] in (moment, "found")

    # What can be done to an attempt.

    def _strike_attempt(self, seen: Sighting, now: float) -> None:
        ways = self._ways(seen)
        kind = self.dice.choices(list(ways), [weight for weight, _ in ways.values()])[0]
        strike = Strike(now, kind, seen.job, seen.attempt)
        if ways[kind][1]():
            strike.at = boot_clock()
            self._struck(strike)

    def _ways(self, seen: Sighting) -> Mapping[str, tuple[int, Callable[[], bool]]]:
        """The strikes that this attempt can get: how likely each is, and how it is done."""
        child, worker, converter = seen.child, seen.worker, seen.converter
        ways: dict[str, tuple[int, Callable[[], bool]]] = {}
        if worker is not None:
            ways["SIGKILL worker"] = (12, lambda: signal_quietly(worker, signal.SIGKILL))
            ways["everything at once"] = (1, self._kill_everything)
            if not self._a_worker_is_frozen():
                ways["SIGSTOP worker, short"] = (6, lambda: self._freeze(worker, self._short()))
                ways["SIGSTOP worker, past its lease"] = (6, lambda: self._freeze(worker, self._long()))
        if seen.phase in IN_CHILD and child is not None:
            ways["SIGKILL child"] = (15, lambda: signal_quietly(child, signal.SIGKILL))
            ways["SIGSTOP child, short"] = (4, lambda: self._freeze(child, self._short()))
            ways["SIGSTOP child, past its lease"] = (4, lambda: self._freeze(child, self._long()))
            ways["SIGSTOP child, for good"] = (4, lambda: self._freeze(child, None))
            if worker is not None and not self._a_worker_is_frozen():
                ways["SIGSTOP worker and child"] = (5, lambda: self._freeze_both(worker, child))
        if seen.phase in WITH_CONVERTER and converter is not None:
            ways["SIGKILL converter"] = (9, lambda: signal_quietly(converter, signal.SIGKILL))
            ways["SIGSTOP converter, short"] = (3, lambda: self._freeze(converter, self._short()))
            ways["SIGSTOP converter, past its lease"] = (3, lambda: self._freeze(converter, self._long()))
        return ways

    def _freeze(self, pid: int, for_s: float | None) -> bool:
        if not signal_quietly(pid, signal.SIGSTOP):
            return False
        if for_s is None:
            self._frozen_for_good.add(pid)
        else:
            self._thaws[pid] = boot_clock() + for_s
        return True

    def _freeze_both(self, worker: int, child: int) -> bool:
        for_s = self._long()
        return self._freeze(child, for_s + self.dice.uniform(0, 0.2)) and self._freeze(worker, for_s)

    def _kill_everything(self) -> bool:
        with_children = self.dice.random() < 0.5
        killed = False
        for ship in self.fleet.ships.values():
            if ship.alive and not ship.line.runs_to_end:
                killed = signal_quietly(ship.pid, signal.SIGKILL) or killed
        if with_children:
            for process in self.fleet.processes():
                signal_quietly(process.pid, signal.SIGKILL)
        self._thaws.clear()
        return killed

    def _a_worker_is_frozen(self) -> bool:
        return any(ship.alive and ship.pid in self._thaws for ship in self.fleet.workers)

    def _short(self) -> float:
        return self.dice.uniform(0.1, LEASE_S / 2)

    def _long(self) -> float:
        return self.dice.uniform(LEASE_S + 0.5, LEASE_S + 4)

    # What can be done to what is around.

    def _strike_services(self, now: float) -> None:
        if self.dice.random() < 0.15 and self._strike_standby(now):
            return
        names = {"api": 3, "api2": 3, "redis": 5, "serving": 2, "postgres": 5}
        there = {name: weight for name, weight in names.items() if name in self.fleet.ships}
        name = self.dice.choices(list(there), list(there.values()))[0]
        ship = self.fleet.ships[name]
        if not ship.alive:
            self._aim = None
            return
        kind = f"SIGKILL {name.rstrip('2')}"
        which = signal.SIGKILL
        if name == "postgres" and self.dice.random() < 0.5:
            kind, which = "restart postgres at once", signal.SIGQUIT
        if signal_quietly(ship.pid, which):
            # Redis is wiped by its end; sometimes it is away for longer than any patience.
            long = name == "redis" and self.dice.random() < 0.4
            self.fleet.rest(ship, self.dice.uniform(2, 6) if long else self.dice.uniform(0, 1))
            self._struck(Strike(now, kind))

    def _strike_standby(self, now: float) -> bool:
        """Kill a child that waits for its order, or freeze it, so that somebody gets a frozen one."""
        kind, which = self.dice.choice(
            [("SIGKILL standby", signal.SIGKILL), ("SIGSTOP standby, for good", signal.SIGSTOP)]
        )
        for pid in self.dice.sample(sorted(self.board.standbys), len(self.board.standbys)):
            self.board.standbys.discard(pid)
            if signal_quietly(pid, which):
                self._struck(Strike(now, kind))
                return True
        return False

    # What came of it.

    def _struck(self, strike: Strike) -> None:
        self.strikes.append(strike)
        self._unresolved.append(strike)
        self._aim = None
        self._next_at = boot_clock() + self.dice.uniform(*GAP_S)

    def _resolve(self, now: float) -> None:
        """Say of each strike which phase the journal saw last before it."""
        for strike in [each for each in self._unresolved if now - each.at > 0.1]:
            self._unresolved.remove(strike)
            if strike.job is not None and strike.attempt is not None:
                seen = self.board.sightings[strike.job, strike.attempt]
                strike.phase, strike.word = seen.phase_at(strike.at)
                strike.hit = seen.heard_before(strike.at) > strike.at - HEARD_OF_WITHIN_S
            self.say(f"{len(self.strikes)}: {strike}")


def wait_tick() -> None:
    """The harness looks a hundred times a second."""
    time.sleep(0.01)
