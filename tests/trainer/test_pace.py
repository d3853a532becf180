"""Several steps a call: how many, and that nothing else changes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.compare import same_weights
from trainer.fit import Trained, fit
from trainer.pace import MOST, Pace, flops_of_a_row
from trainer.spec import TrainSpec

HOUR = {"steps": 5000, "epochs": 20}


def pace_of(model: Any = None, **changes: Any) -> Pace:
    settings = {"asked": "auto", "batch_size": 32, "most": None, "seeded": False, **HOUR, **changes}
    return Pace(settings.pop("asked"), model=model, **settings)


def after_an_epoch(pace: Pace, *, tracing_s: float, step_s: float) -> int:
    pace.stopwatch.tracing_s = tracing_s
    pace.stopwatch._steps, pace.stopwatch._spent_s = 101, 100 * step_s
    pace.epoch_ended(1)
    return pace.at(1)


def test_the_first_epoch_runs_step_by_step_unless_told_otherwise() -> None:
    assert pace_of().at(0) == 1
    assert pace_of(asked=7).at(0) == pace_of(asked=7).at(5) == 7
    assert not pace_of(asked=7).may_change_after(0)


def test_short_steps_go_together_and_long_ones_do_not() -> None:
    assert after_an_epoch(pace_of(), tracing_s=1.0, step_s=0.0005) == 50  # of 64, what divides 5000
    assert after_an_epoch(pace_of(), tracing_s=1.0, step_s=0.02) == 10  # of 12
    assert after_an_epoch(pace_of(), tracing_s=1.0, step_s=0.5) == 1


def test_what_costs_more_than_it_saves_is_left() -> None:
    assert after_an_epoch(pace_of(epochs=3), tracing_s=1.0, step_s=0.0005) == 1
    short = pace_of(steps=100, epochs=10)
    assert not short.may_change_after(0)


def test_an_epoch_that_nothing_divides_ends_with_a_shorter_call() -> None:
    assert after_an_epoch(pace_of(steps=5003), tracing_s=1.0, step_s=0.0005) == MOST


def test_a_call_is_no_longer_than_the_way_to_a_checkpoint() -> None:
    assert after_an_epoch(pace_of(most=8), tracing_s=1.0, step_s=0.0005) == 8


def test_what_was_measured_is_kept() -> None:
    first = pace_of()
    assert first.may_change_after(0)
    after_an_epoch(first, tracing_s=1.0, step_s=0.0005)
    second = pace_of()
    second.restore(first.state())
    assert (second.at(7), second.may_change_after(7)) == (50, False)


@pytest.fixture(scope="module")
def networks() -> tuple[Any, Any]:
    import keras

    small = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    images = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(64, 3, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    return small, images


def test_a_seeded_job_is_ruled_by_its_size(networks: tuple[Any, Any]) -> None:
    small, images = networks
    ruled = pace_of(small, seeded=True)
    assert (ruled.at(0), ruled.at(1)) == (1, 50)
    assert (ruled.may_change_after(0), ruled.may_change_after(1)) == (True, False)
    assert pace_of(images, seeded=True).at(1) < 4


def test_work_is_counted_where_weights_are_used(networks: tuple[Any, Any]) -> None:
    import keras

    small, images = networks
    assert flops_of_a_row(small) == 6 * (20 * 8 + 8)
    assert flops_of_a_row(images) == 6 * (3 * 3 * 3 * 64 * 32 * 32 + 32 * 32 * 64 * 10)
    steps = keras.Sequential([keras.Input((50,)), keras.layers.Embedding(1000, 8), keras.layers.SimpleRNN(4)])
    assert flops_of_a_row(steps) == 6 * 50 * (8 * 4 + 4 * 4)


@pytest.fixture(scope="module")
def step_by_step(images_document, images_file: Path, recorder, tmp_path_factory) -> Trained:
    body = images_document | {"compile": images_document["compile"] | {"steps_per_execution": 1}}
    spec = TrainSpec.model_validate(body)
    workdir = tmp_path_factory.mktemp("one")
    return fit(spec, data_file=images_file, workdir=workdir, seed=11, observer=recorder())


# Of 6 steps an epoch: whole calls, a shorter last one, one call for all, and more than there are.
@pytest.mark.parametrize(
    "steps", [pytest.param(steps, marks=pytest.mark.full) for steps in (3, 6, 100)] + [4]
)
def test_several_steps_a_call_train_the_same_model(
    run, images_body, recorder, step_by_step: Trained, steps: int
) -> None:
    images_body["compile"]["steps_per_execution"] = steps
    observer = recorder()
    trained = run(images_body, observer)
    assert trained.history == step_by_step.history
    assert same_weights(trained.model, step_by_step.model)
    assert [(each.epoch, each.step) for each in observer.epochs] == [(1, 6), (2, 12), (3, 18), (4, 24)]
    assert all(each.step <= each.steps_per_epoch for each in observer.progresses)


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.full
def test_a_run_of_several_steps_a_call_is_resumed_to_the_bit(
    run, images_body, killed, step_by_step: Trained, steps: int
) -> None:
    images_body["compile"]["steps_per_execution"] = steps
    images_body["checkpoint"] = {"every_steps": 2}
    # Polls an epoch: at each call but the last, at each call of the validation of 2 batches, and at the end.
    killed(images_body, polls=(2 + 1 + 1) * 2 + 2 if steps == 2 else (1 + 1 + 1) * 2 + 2)
    trained = run(images_body)
    assert trained.history == step_by_step.history
    assert same_weights(trained.model, step_by_step.model)


@pytest.mark.full
def test_a_pace_that_changes_within_a_run_changes_nothing_else(
    run, images_body, killed, step_by_step: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces = itertools.cycle([1, 3, 2, 6])
    chosen = {epoch: next(paces) for epoch in range(5)}
    monkeypatch.setattr(Pace, "at", lambda _self, epoch: chosen[epoch])
    monkeypatch.setattr(Pace, "may_change_after", lambda _self, epoch: chosen[epoch] != chosen[epoch + 1])
    trained = run(images_body)
    assert trained.history == step_by_step.history
    assert same_weights(trained.model, step_by_step.model)
