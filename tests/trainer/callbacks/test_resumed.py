"""Every callback, killed within an epoch or at its end: weights, curves and files as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.compare import same_weights
from trainer.callback import callbacks
from trainer.fit import Trained, fit
from trainer.spec import TrainSpec

DECAY = {
    "class_name": "ExponentialDecay",
    "config": {"initial_learning_rate": 0.02, "decay_steps": 1, "decay_rate": 0.7},
}
CASES: dict[str, dict[str, Any]] = {
    "CSVLogger": {},
    "EarlyStopping": {"monitor": "loss", "patience": 3, "restore_best_weights": True},
    "LearningRateScheduler": {"schedule": DECAY},
    "ModelCheckpoint": {"monitor": "loss", "save_best_only": True},
    "ReduceLROnPlateau": {"monitor": "loss", "factor": 0.5, "patience": 1, "min_delta": 10, "cooldown": 1},
    "SwapEMAWeights": {"swap_on_epoch": True},
    "TensorBoard": {"histogram_freq": 1, "update_freq": "batch"},
    "TerminateOnNaN": {},
}


QUICK = ("SwapEMAWeights", "TensorBoard")
"""Those that keep most: the others are tried by `make test-full`."""


def test_every_callback_is_tried() -> None:
    assert CASES.keys() == callbacks().keys()


def with_callback(document: dict[str, Any], name: str, config: dict[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(document)
    body["fit"]["callbacks"] = [{"class_name": name, "config": config}]
    body["checkpoint"] = {"every_steps": 2}
    if name == "SwapEMAWeights":
        body["compile"]["optimizer"]["config"] |= {"use_ema": True, "ema_momentum": 0.7}
    return body


@pytest.fixture
def body(request: pytest.FixtureRequest, images_document: dict[str, Any]) -> dict[str, Any]:
    """A spec with the callback of the test's parameter."""
    return with_callback(images_document, request.param, CASES[request.param])


def written(workdir: Path) -> dict[str, Any]:
    """What the callback has written: a file's bytes, but of TensorBoard the events themselves."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, Any] = {}
    for path in sorted((workdir / "callback-0").rglob("*")):
        if path.is_dir() or path.suffix == ".h5":  # an h5 file holds times
            continue
        if "tfevents" not in path.name:
            found[path.name] = path.read_bytes()
            continue
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name not in ("graphs", "graph_keras_model", "graph_run"):
                    key = f"{path.parent.name}/{value.tag}"
                    found.setdefault(key, []).append((event.step, make_ndarray(value.tensor).tolist()))
    return found


@pytest.fixture(scope="module")
def undisturbed(
    request: pytest.FixtureRequest, images_document, images_file: Path, recorder, tmp_path_factory
) -> tuple[dict[str, Any], Trained, Path]:
    """A spec, what became of it without a kill, and where."""
    name, config = request.param
    body = with_callback(images_document, name, config)
    workdir = tmp_path_factory.mktemp(name)
    spec = TrainSpec.model_validate(body)
    return body, fit(spec, data_file=images_file, workdir=workdir, seed=11, observer=recorder()), workdir


# 8 polls an epoch: within the third one, before any checkpoint, and at the second's end.
@pytest.mark.parametrize(
    "polls", [18, pytest.param(1, marks=pytest.mark.full), pytest.param(15, marks=pytest.mark.full)]
)
@pytest.mark.parametrize(
    "undisturbed",
    [
        pytest.param(case, id=case[0], marks=() if case[0] in QUICK else pytest.mark.full)
        for case in CASES.items()
    ]
    + [pytest.param(("SwapEMAWeights", {}), id="SwapEMAWeights in validation", marks=pytest.mark.full)],
    indirect=True,
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    run, undisturbed, polls: int, killed, tmp_path: Path
) -> None:
    body, whole, workdir = undisturbed
    killed(body, polls=polls)
    trained = run(body)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)
    assert written(tmp_path / "work") == written(workdir)


@pytest.mark.parametrize("body", ["LearningRateScheduler"], indirect=True)
def test_a_scheduled_rate_is_the_schedules_of_the_epoch(run, body) -> None:
    rates = run(body).history["learning_rate"]
    assert rates == pytest.approx([0.02 * 0.7**epoch for epoch in range(4)])


@pytest.mark.parametrize("body", ["ReduceLROnPlateau"], indirect=True)
def test_a_rate_is_lowered_where_nothing_improves_by_enough(run, body) -> None:
    assert run(body).history["learning_rate"] == pytest.approx([0.01, 0.01, 0.005, 0.0025])


@pytest.mark.parametrize("body", ["CSVLogger"], indirect=True)
def test_a_table_of_the_epochs_is_written(run, body, tmp_path: Path) -> None:
    run(body)
    lines = (tmp_path / "work" / "callback-0" / "log.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,accuracy,loss,val_accuracy")
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2", "3"]


@pytest.mark.full
@pytest.mark.parametrize("body", ["TensorBoard"], indirect=True)
def test_tensorboard_finds_scalars_and_histograms(run, body, tmp_path: Path) -> None:
    run(body)
    found = written(tmp_path / "work")
    assert [step for step, _ in found["train/epoch_loss"]] == [0, 1, 2, 3]
    assert any(tag.endswith("kernel/histogram") for tag in found)


@pytest.mark.parametrize("body", ["SwapEMAWeights"], indirect=True)
def test_what_is_exported_is_the_average(run, body, images_body, tmp_path: Path) -> None:
    averaged = run(body)
    optimizer = averaged.model.optimizer
    assert all(
        (average.numpy() == weight.numpy()).all()
        for average, weight in zip(
            optimizer._model_variables_moving_average, optimizer._trainable_variables, strict=True
        )
    )
