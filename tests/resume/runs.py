"""Runs of a case: killed as often as asked, each attempt a process, and what came out at the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.resume.cases import Case
from trainer.plugin import VARIABLE

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kill:
    """Where an attempt ends by SIGKILL.

    `damage` then flips a byte of the newest checkpoint; after `move`, attempts run on a single CPU.
    """

    where: dict[str, Any]
    says: str
    damage: bool = False
    move: bool = False


def at_step(epoch: int, step: int) -> Kill:
    """After the batch `step` (from 1) of `epoch` (from 1) was trained on."""
    return Kill({"on": "step", "epoch": epoch, "step": step}, f"epoch {epoch} step {step}")


def in_validation(epoch: int) -> Kill:
    """After the first batch of the epoch's validation."""
    return Kill({"on": "validation", "epoch": epoch}, f"epoch {epoch} validation")


STAGES = {"arrays": "half written", "rename": "not yet renamed", "prune": "pruning"}


def in_checkpoint(number: int, stage: str) -> Kill:
    """While the checkpoint of that number, from 1, is written."""
    return Kill(
        {"on": "checkpoint", "number": number, "stage": stage}, f"checkpoint {number} {STAGES[stage]}"
    )


@dataclass(frozen=True)
class Outcome:
    """The end of a run: where its last attempt went on, how many steps were done more than once."""

    variables: list[list[str]]
    history: dict[str, list[float]]
    points: list[dict[str, Any]]
    notes: list[str]
    epochs: int
    again: int

    @property
    def resumed_from(self) -> str:
        """Where the last attempt went on."""
        for note in self.notes:
            found = re.match(r"goes on from epoch (\d+), step (\d+) of", note)
            if found:
                return f"epoch {found[1]} step {found[2]}"
            if note.startswith("goes on after"):
                return "after the last epoch"
        return "the start"

    @property
    def digest(self) -> str:
        """One digest of every variable's name, dtype and bytes."""
        return hashlib.sha256(json.dumps(self.variables).encode()).hexdigest()[:12]

    def same_weights(self, other: Outcome) -> bool:
        """Whether every variable of the model, random states included, has the same bytes."""
        return self.variables == other.variables

    def same_curves(self, other: Outcome) -> bool:
        """Whether history and told points are the same lists."""
        return self.history == other.history and self.points == other.points


def run(case: Case, folder: Path, kills: Sequence[Kill] = ()) -> Outcome:
    """Start attempts in one work folder until one ends by itself, each of the others by its kill.

    Raises:
        AssertionError: an attempt ended otherwise.
    """
    folder.mkdir()
    log = folder / "steps"
    moved = False
    for number, kill in enumerate([*kills, None]):
        result = folder / f"result-{number}.json"
        order = {
            "spec": case.spec,
            "data_file": case.data_file and str(case.data_file),
            "steps": case.steps,
            "cpus": case.cpus,
            "workdir": str(folder / "work"),
            "log": str(log),
            "result": str(result),
            "kill": kill and kill.where,
            "one_cpu": moved,
        }
        order_file = folder / f"order-{number}.json"
        order_file.write_text(json.dumps(order))
        done = subprocess.run(
            [sys.executable, "-m", "tests.resume.attempt", str(order_file)],
            cwd=ROOT,
            env={**os.environ, VARIABLE: str(ROOT / "deploy" / "plugins")},
            capture_output=True,
            text=True,
            check=False,
        )
        expected = -signal.SIGKILL if kill else 0
        assert done.returncode == expected, (
            f"{case.name}, attempt {number + 1} ended with {done.returncode}\n{done.stderr[-3000:]}"
        )
        moved = moved or bool(kill and kill.move)
        if kill and kill.damage:
            flip_a_byte(folder / "work" / "checkpoints")
    steps = log.read_text().splitlines()
    return Outcome(**json.loads(result.read_text()), again=len(steps) - len(set(steps)))


def flip_a_byte(checkpoints: Path) -> None:
    """Damage the newest checkpoint as a failing disk would."""
    arrays = max(checkpoints.glob("epoch-*")) / "arrays.npz"
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
