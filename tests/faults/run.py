"""One run of the harness: a fleet, a customer, mayhem among them, and the verdict."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.exc import OperationalError

from serving.store import Store
from tests.faults import evidence
from tests.faults.customer import Customer, wait_until_read
from tests.faults.evidence import Recorded, Verdict
from tests.faults.fleet import Fleet
from tests.faults.journal import Board, Journal
from tests.faults.mayhem import Mayhem, wait_tick
from tests.faults.specs import digits, specs

SETTLE_WITHIN_S = 60.0


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    database: str = "sqlite"
    jobs: int = 60
    kills: int = 150
    seed: int = 1
    hits: int = 100
    each_phase: int = 10
    deadline_s: float = 1800.0
    keep: Path | None = None
    """Leave the fleet's folder here."""


@dataclass
class Outcome:
    """What a run came to."""

    plan: Plan
    jobs: int = 0
    attempts: int = 0
    deaths: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    hits: int = 0
    starts: dict[str, int] = field(default_factory=dict)
    journal_lines: int = 0
    repeats: int = 0
    wall_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def good(self) -> bool:
        return self.verdict.holds

    def document(self) -> dict[str, Any]:
        """The outcome as JSON."""
        return {
            "database": self.plan.database,
            "seed": self.plan.seed,
            "jobs": self.jobs,
            "attempts": self.attempts,
            "deaths": self.deaths,
            "kills": sum(self.kinds.values()),
            "kills_by_kind": dict(self.kinds.most_common()),
            "hit_a_running_attempt": self.hits,
            "hits_by_phase": dict(self.phases),
            "hits_in_publishing_by_last_step": dict(self.gaps),
            "starts": self.starts,
            "repeated_posts": self.repeats,
            "journal_lines": self.journal_lines,
            "wall_s": round(self.wall_s, 1),
            **{promise.replace(" ", "_"): count for promise, count in self.verdict.counts.items()},
            "evidence": {name: found for name, found in self.verdict.faults.items() if found},
            "good": self.good,
        }


@contextmanager
def home(keep: Path | None) -> Iterator[Path]:
    """A folder for a fleet; short, since a socket's path is."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def run(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Do it all, and judge it."""
    began = time.monotonic()
    with home(plan.keep) as folder:
        fleet = Fleet(folder, random.Random(plan.seed), plan.database)
        left: list[str] = []
        try:
            fleet.start()
            say(f"the fleet is up after {time.monotonic() - began:.1f} s")
            wait_until_read(fleet.apis[0], fleet.token, digits())
            outcome = _attack(plan, fleet, say, began)
        finally:
            left = fleet.stop()
        outcome.verdict.add("processes left", left)
        _judge(outcome, fleet)
        outcome.wall_s = time.monotonic() - began
    return outcome


def _attack(plan: Plan, fleet: Fleet, say: Callable[[str], None], began: float) -> Outcome:
    journal, board = Journal(fleet.journal), Board()
    mayhem = Mayhem(
        fleet,
        board,
        random.Random(plan.seed + 1),
        kills=plan.kills,
        least_hits=plan.hits,
        least_in_phase=plan.each_phase,
        say=say,
    )
    customer = Customer(
        fleet.apis,
        fleet.token,
        specs(),
        plan.seed,
        wants_more=lambda accepted: accepted < plan.jobs or not mayhem.enough,
    )
    outcome = Outcome(plan)
    customer.start()
    # Spread over all jobs: otherwise the first few would get all.
    head_start, per_job = 4 + plan.kills // 20, plan.kills / max(1, plan.jobs)
    said_at = time.monotonic()
    stalled = False
    while not (mayhem.enough and len(customer.accepted) >= plan.jobs and not customer.waiting):
        board.see(journal.read_on())
        fleet.tend()
        done = len(customer.accepted) - len(customer.waiting)
        mayhem.act(strike=not mayhem.enough and len(mayhem.strikes) < head_start + done * per_job)
        if time.monotonic() - said_at > 20:
            said_at = time.monotonic()
            say(
                f"{said_at - began:.0f} s: {done} of {len(customer.accepted)} jobs ended, "
                f"{len(mayhem.strikes)} strikes, {mayhem.hits} hit, {dict(mayhem.phases)}"
            )
        if customer.refused or board.unwitnessed or time.monotonic() - began > plan.deadline_s:
            stalled = True
            break
        wait_tick()
    mayhem.end()
    customer.leave()
    outcome.verdict.add("unwitnessed", board.unwitnessed)
    outcome.verdict.add("refused", customer.refused)
    outcome.verdict.add("doubled keys", customer.doubled)
    if stalled:
        outcome.verdict.add("stalled", _where_jobs_stand(fleet, customer, board))
        say(fleet.last_words())
    else:
        outcome.verdict.add("stalled", ())
        outcome.verdict.add("not served", _await_serving(fleet, customer, journal, board))
    board.see(journal.read_on())
    mayhem.act(strike=False)
    outcome.jobs, outcome.repeats = len(customer.accepted), customer.repeats
    outcome.kinds, outcome.phases, outcome.gaps = mayhem.kinds, mayhem.phases, mayhem.gaps
    outcome.hits = mayhem.hits
    outcome.starts = {name: ship.starts for name, ship in fleet.ships.items()}
    outcome.verdict.add("strikes missing", [] if mayhem.enough else [f"{mayhem.missing}, {mayhem.hits} hits"])
    if not stalled:
        _settle(fleet)
    # While PostgreSQL is still there.
    recorded = _read_records(fleet)
    accepted = {each.key: each.job for each in customer.accepted}
    alike = {each.job: f"spec {each.spec}" for each in customer.accepted}
    _judge_records(outcome, recorded, accepted, alike, fleet)
    return outcome


def _judge_records(
    outcome: Outcome, recorded: Recorded, accepted: dict[str, str], alike: dict[str, str], fleet: Fleet
) -> None:
    verdict, store = outcome.verdict, Store(fleet.settings.store_root)
    outcome.attempts = sum(row["attempt"] for row in recorded.jobs)
    outcome.deaths = sum(row["deaths"] for row in recorded.jobs)
    kept = evidence.kept_events(fleet.settings.jobs_folder, accepted.values())
    verdict.add("lost", evidence.lost(accepted, recorded))
    verdict.add("published twice", evidence.published_twice(recorded, store))
    verdict.add("illegal moves", evidence.illegal_moves(recorded))
    verdict.add("event gaps", evidence.event_gaps(recorded, kept))
    verdict.add("broken curves", evidence.broken_curves(recorded, alike))
    verdict.add("differing weights", evidence.differing_weights(recorded, store, alike))
    config = store.root / "models.config"
    text = config.read_text() if config.exists() else ""
    models = {row["model"] for row in recorded.versions if row["status"] == "published"}
    verdict.add(
        "models.config", [f"{model} is not in it" for model in sorted(models) if f'"{model}"' not in text]
    )


def _judge(outcome: Outcome, fleet: Fleet) -> None:
    """What can be told only when all is over."""
    journal = Journal(fleet.journal)
    journal.read_on()
    outcome.journal_lines = len(journal.lines)
    outcome.verdict.add("overlaps", evidence.overlaps(journal.lines))
    outcome.verdict.add("begun twice", evidence.twice_begun(journal.lines))


def _settle(fleet: Fleet) -> None:
    """Wait until the reconcilers have collected what is stale; what they leave, the verdict names."""
    store = Store(fleet.settings.store_root)
    deadline = time.monotonic() + 15
    while store.staged() and time.monotonic() < deadline:
        fleet.tend()
        time.sleep(0.1)


def _await_serving(fleet: Fleet, customer: Customer, journal: Journal, board: Board) -> list[str]:
    """Models whose newest version the model server does not come to serve."""
    store = Store(fleet.settings.store_root)
    models = {str(specs()[each.spec]["name"]) for each in customer.accepted if each.status == "succeeded"}
    newest = {model: max(store.versions(model), default=0) for model in models}
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while time.monotonic() < deadline:
        fleet.tend()
        board.see(journal.read_on())
        newest = {model: number for model, number in newest.items() if not _serves(fleet, model, number)}
        if not newest:
            break
        time.sleep(0.2)
    return [f"{model} version {number} is not AVAILABLE" for model, number in newest.items()]


def _serves(fleet: Fleet, model: str, number: int) -> bool:
    url = f"{fleet.addresses.serving_rest}/v1/models/{model}/versions/{number}"
    try:
        answer = httpx.get(url, timeout=3, trust_env=False)
    except httpx.TransportError:
        return False
    states = answer.json().get("model_version_status", []) if answer.status_code == 200 else []
    return any(each["state"] == "AVAILABLE" for each in states)


def _read_records(fleet: Fleet) -> Recorded:
    """Everything, as soon as the database answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return Recorded.read(fleet.settings.effective_database_url)
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            fleet.tend()
            time.sleep(0.1)


def _where_jobs_stand(fleet: Fleet, customer: Customer, board: Board) -> list[str]:
    rows = {row["id"]: row for row in _read_records(fleet).jobs}
    stand = []
    for each in customer.waiting:
        row = rows.get(each.job, {})
        seen = [sighting for sighting in board.sightings.values() if sighting.job == each.job]
        last = max(seen, key=lambda sighting: sighting.attempt, default=None)
        stand.append(
            f"{each.job} is {row.get('status')} in {row.get('phase')}, attempt {row.get('attempt')}, "
            f"owner {row.get('owner')}; last seen: {last and (last.attempt, last.phase, last.child)}"
        )
    return stand or ["nothing waits, and the strikes that were to be made were not"]
