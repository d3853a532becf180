"""Kill training everywhere and compare with the undisturbed run, to the bit: `python -m tests.resume`."""
# ruff: noqa: T201 - the table is what this program is for

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.resume.cases import CHECKPOINT_EVERY, cases
from tests.resume.runs import run
from tests.resume.table import kills_of, lines, row

AT_A_TIME = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.resume", description=__doc__)
    parser.add_argument("--seed", type=int, help="chooses where to kill; drawn and printed if left out")
    parser.add_argument("--model", action="append", help="mlp, cnn or lstm; all if left out")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    print(f"seed {seed}; a checkpoint every {CHECKPOINT_EVERY} steps and at each epoch's end", flush=True)
    began = time.monotonic()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(AT_A_TIME) as pool:
        folder = Path(name)
        chosen = [case for case in cases(folder) if not arguments.model or case.name in arguments.model]
        undisturbed = list(pool.map(lambda case: run(case, folder / f"{case.name}-undisturbed"), chosen))
        for case, outcome in zip(chosen, undisturbed, strict=True):
            print(f"{case.name}, undisturbed: {outcome.epochs} epochs of {case.steps} steps, "
                  f"{len(outcome.variables)} variables, weights {outcome.digest}", flush=True)  # fmt: skip
        waiting = [
            pool.submit(row, case, kills, outcome, folder / f"{case.name}-{number}")
            for case, outcome in zip(chosen, undisturbed, strict=True)
            for number, kills in enumerate(kills_of(case, outcome.epochs, rng))
        ]
        rows = [future.result() for future in waiting]
    print("\n".join(lines(rows)))
    bad = sum(not each.good for each in rows)
    kills = sum(len(each.kills) for each in rows)
    print(
        f"{len(rows)} runs, {kills} SIGKILLs, {len(rows) - bad} equal to the undisturbed one, {bad} not; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
