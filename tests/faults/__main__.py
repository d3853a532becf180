"""`python -m tests.faults`: real jobs under random kills, and what became of them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

from tests.faults.mayhem import PHASES
from tests.faults.run import Outcome, Plan, run

SIZES = {
    "sqlite": Plan(jobs=60, kills=150, hits=100, each_phase=10),
    "postgresql": Plan(jobs=30, kills=60, hits=40, each_phase=4),
}


def main() -> int:
    """Run one attack, or the control; 1 when anything promised did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--database", choices=sorted(SIZES), default="sqlite")
    parser.add_argument("--jobs", type=int, help="at least so many jobs")
    parser.add_argument("--kills", type=int, help="at least so many kills and freezes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deadline", type=float, help="seconds after which a run that stalls ends")
    parser.add_argument("--keep", type=Path, help="a new folder for the fleet, left as it ends")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, nothing else")
    parser.add_argument("--control", action="store_true", help="show that the overlap detector detects")
    asked = parser.parse_args()

    def say(text: str) -> None:
        out = sys.stderr if asked.json else sys.stdout
        out.write(text + "\n")
        out.flush()

    if asked.control:
        from tests.faults.control import control

        return control(asked.seed, say)
    outcome = run(plan_of(asked), say)
    if asked.json:
        sys.stdout.write(json.dumps(outcome.document(), indent=1) + "\n")
    else:
        say(table(outcome))
    return 0 if outcome.good else 1


def plan_of(asked: argparse.Namespace) -> Plan:
    """The plan of this size: a smaller one asks for fewer hits in proportion."""
    whole = SIZES[asked.database]
    jobs = whole.jobs if asked.jobs is None else asked.jobs
    kills = whole.kills if asked.kills is None else asked.kills
    return replace(
        whole,
        database=asked.database,
        jobs=jobs,
        kills=kills,
        seed=asked.seed,
        hits=math.ceil(whole.hits * kills / whole.kills),
        each_phase=math.ceil(whole.each_phase * kills / whole.kills),
        deadline_s=asked.deadline or 180 + 8.0 * kills + 12.0 * jobs,
        keep=asked.keep,
    )


def table(outcome: Outcome) -> str:
    """What a person reads."""
    plan, verdict = outcome.plan, outcome.verdict
    lines = [
        f"{plan.database}, seed {plan.seed}: {outcome.wall_s:.0f} s",
        f"  {'jobs':34}{outcome.jobs:6}",
        f"  {'attempts':34}{outcome.attempts:6}",
        f"  {'deaths counted against jobs':34}{outcome.deaths:6}",
        f"  {'posts repeated with their key':34}{outcome.repeats:6}",
        f"  {'kills and freezes':34}{sum(outcome.kinds.values()):6}",
        *(f"    {kind:32}{count:6}" for kind, count in outcome.kinds.most_common()),
        f"  {'of them hit a running attempt':34}{outcome.hits:6}",
        *(f"    {'in ' + phase:32}{outcome.phases[phase]:6}" for phase in PHASES),
        *(f"      {'last done: ' + word:30}{count:6}" for word, count in outcome.gaps.most_common()),
        *(
            f"    {'in ' + phase:32}{count:6}"
            for phase, count in outcome.phases.most_common()
            if phase not in PHASES
        ),
        "  checkpoints and the gaps of a publication were widened by random pauses of up to 0.3 s",
        *(f"  {promise:34}{count:6}" for promise, count in verdict.counts.items()),
    ]
    for promise, found in verdict.faults.items():
        lines += [f"{promise}: {each}" for each in found[:20]]
    lines.append("every promise held" if outcome.good else "NOT every promise held")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
