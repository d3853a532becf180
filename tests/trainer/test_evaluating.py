"""A version scored on other rows is scored as training scored it on its own."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.architecture import Base, recorded
from trainer.errors import Cancelled, Interrupted, InvalidDataError
from trainer.evaluating import evaluate
from trainer.observer import Interruption
from trainer.spec import EvaluateSpec, TrainSpec


@pytest.fixture
def published(run, images_body, tmp_path):
    """A trained model with its test rows, as a version."""
    images_body["data"]["split"]["fractions"] = [0.5, 0.2, 0.3]
    trained = run(images_body)
    trained.model.save_weights(tmp_path / "model.weights.h5")
    section = recorded(TrainSpec.model_validate(images_body).model, trained.model, None)
    return trained, Base.of(section, tmp_path / "model.weights.h5")


@pytest.fixture
def scored(published, images_body):
    """Score the version on a file."""
    data = {name: images_body["data"][name] for name in ("kind", "uri", "features", "label")}
    spec = EvaluateSpec.model_validate({"data": data, "compile": images_body["compile"]})

    def scored(file, interruption=lambda: None, **more):
        phases: list[str] = []
        return evaluate(
            spec, base=published[1], data_file=file, on_phase=phases.append, interruption=interruption, **more
        )

    return scored


def test_its_own_test_rows_give_the_metrics_that_training_gave(published, scored, tmp_path):
    trained, _ = published
    rows = trained.rows.held_out
    np.savez(tmp_path / "test.npz", x=rows.features["features"], y=rows.targets["label"])
    answer = scored(tmp_path / "test.npz")
    assert answer["rows"] == len(rows)
    assert answer["metrics"] == pytest.approx(trained.metrics["test"], rel=1e-5)
    assert answer["outputs"] == trained.judgement["outputs"]


def test_rows_that_memory_does_not_hold_get_the_same_score_and_leave_nothing(scored, images_file, tmp_path):
    in_memory = scored(images_file)
    workdir = tmp_path / "scoring"
    workdir.mkdir()
    from_disk = scored(images_file, workdir=workdir, memory_bytes=1000)
    assert from_disk["metrics"] == pytest.approx(in_memory["metrics"], rel=1e-6)
    assert from_disk["outputs"] == in_memory["outputs"]
    assert list(workdir.iterdir()) == []


def test_rows_that_do_not_fit_the_model_are_told(scored, tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros((4, 6, 6, 1), "float32"), y=np.array([0, 1, 2, 9]))
    with pytest.raises(InvalidDataError, match="the label holds 2"):
        scored(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("asked", "raised"), [(Interruption.CANCEL, Cancelled), (Interruption.STOP, Interrupted)]
)
def test_it_ends_when_asked_to(scored, images_file, asked, raised):
    with pytest.raises(raised):
        scored(images_file, lambda: asked)
