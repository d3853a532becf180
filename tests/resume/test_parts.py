"""Whatever keeps state, and every source, killed at random steps: the bits of an undisturbed run."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.resume.parts import CALLBACKS, EPOCHS, PLUGINS, STEPS, parts
from tests.resume.runs import Kill, Outcome, at_step, in_validation, run
from trainer.callback import callbacks
from trainer.source import sources

SOURCES = tuple(f"source:{kind}" for kind in sources())
NAMES = (*CALLBACKS, *PLUGINS, "mixed_float16", "mixed_bfloat16", "mirrored", *SOURCES)


def anywhere(rng: random.Random, epochs: int) -> Kill:
    return at_step(rng.randint(1, epochs), rng.randint(1, STEPS))


def test_every_callback_is_tried() -> None:
    assert CALLBACKS.keys() == callbacks().keys()


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_whatever_keeps_state_is_resumed_to_the_bit(name: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**31)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    rng = random.Random(seed)
    case = parts(tmp_path)[name]
    undisturbed = run(case, tmp_path / "undisturbed")
    epochs = undisturbed.epochs
    assert 2 < epochs <= EPOCHS
    twice = [at_step(1, rng.randint(1, STEPS)), at_step(epochs, rng.randint(1, STEPS))]
    # What differs between sources is read before the first step.
    runs = [twice] if name in SOURCES else [[anywhere(rng, epochs)], [in_validation(epochs - 1)], twice]

    def killed(number: int) -> Outcome:
        return run(case, tmp_path / f"killed-{number}", runs[number])

    with ThreadPoolExecutor(2) as pool:
        for kills, outcome in zip(runs, pool.map(killed, range(len(runs))), strict=True):
            says = ", ".join(kill.says for kill in kills)
            assert outcome.same_weights(undisturbed), says
            assert outcome.same_curves(undisturbed), says
