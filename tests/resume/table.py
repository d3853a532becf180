"""Which kills a case goes through, and one row of the printed table for each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.resume.cases import CHECKPOINT_EVERY, Case
from tests.resume.runs import STAGES, Kill, Outcome, at_step, in_checkpoint, in_validation, run

HEADERS = ("model", "killed at", "resumed from", "steps again", "weights equal", "curves equal", "weights")
RANDOM_STEPS = 5


@dataclass(frozen=True)
class Row:
    """One run that was killed, beside the one that wasn't."""

    case: str
    kills: Sequence[Kill]
    outcome: Outcome
    undisturbed: Outcome

    @property
    def good(self) -> bool:
        """Whether nothing tells the two runs apart."""
        return self.outcome.same_weights(self.undisturbed) and self.outcome.same_curves(self.undisturbed)

    def cells(self) -> tuple[str, ...]:
        """Return the row as printed, under HEADERS."""
        says = ", ".join(kill.says for kill in self.kills)
        if any(kill.damage for kill in self.kills):
            says += ", byte flipped"
        if any(kill.move for kill in self.kills):
            says += ", on to one CPU"
        return (
            self.case,
            says,
            self.outcome.resumed_from,
            str(self.outcome.again),
            "yes" if self.outcome.same_weights(self.undisturbed) else "NO",
            "yes" if self.outcome.same_curves(self.undisturbed) else "NO",
            self.outcome.digest,
        )


def kills_of(case: Case, epochs: int, rng: random.Random) -> list[list[Kill]]:
    """Choose where a case of that many epochs is killed; each list is one run."""
    steps = case.steps
    anywhere = sorted(rng.sample(range(epochs * steps), RANDOM_STEPS))
    # Checkpoints an epoch: those between its ends, and its end.
    checkpoints = epochs * ((steps - 1) // CHECKPOINT_EVERY + 1)
    at = [at_step(1 + step // steps, 1 + step % steps) for step in anywhere]
    late = at_step(epochs, rng.randint(CHECKPOINT_EVERY + 1, steps))
    return [
        *([kill] for kill in at),
        [at_step(rng.randint(2, epochs), 1)],
        [at_step(rng.randint(1, epochs), steps)],
        [in_validation(rng.randint(1, epochs))],
        # From the third on, each checkpoint is followed by the deletion of one.
        [in_checkpoint(rng.randint(3, checkpoints), rng.choice(sorted(STAGES)))],
        # In the checkpoint with which training is complete.
        [in_checkpoint(checkpoints + 1, rng.choice(sorted(STAGES)))],
        [at_step(1, rng.randint(1, steps)), in_validation(rng.randint(2, epochs - 1)), late],
        [replace(late, damage=True)],
        [replace(at_step(rng.randint(2, epochs), rng.randint(1, steps)), move=True)],
    ]


def row(case: Case, kills: Sequence[Kill], undisturbed: Outcome, folder: Path) -> Row:
    """Run a case with its kills in `folder`, which is made."""
    return Row(case.name, kills, run(case, folder, kills), undisturbed)


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the table as lines of text."""
    cells = [HEADERS, *(each.cells() for each in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in cells]  # fmt: skip
