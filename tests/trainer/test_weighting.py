"""How much rows and classes count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from trainer import errors
from trainer.fit import Trained, fit
from trainer.loading import load
from trainer.samples import Samples
from trainer.source import DataFile, sources
from trainer.spec import TrainSpec
from trainer.targets import weights_of
from trainer.weighting import class_weights


def rows(**targets) -> Samples:
    return Samples({"x": np.zeros((2, 1))}, targets)


def test_balanced_classes_count_alike() -> None:
    label = np.array([0, 0, 0, 0, 0, 0, 2, 2])
    weights = class_weights("balanced", rows(label=label))
    assert weights == {0: pytest.approx(8 / 12), 2: pytest.approx(2.0)}
    assert sum(weights[int(each)] for each in label) == pytest.approx(8)
    assert class_weights("balanced", rows(label=np.eye(3)[label])) == weights


def test_weights_that_are_given_are_taken() -> None:
    assert class_weights({0: 1.0, 1: 10.0}, rows(label=np.array([0, 1]))) == {0: 1.0, 1: 10.0}
    assert class_weights(None, rows(a=np.array([0]), b=np.array([0]))) is None


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"a": np.array([0]), "b": np.array([0])}, "one output"),
        ({"a": np.array([0.5, 1.0])}, "classes counted from 0"),
        ({"a": np.array([-1, 1])}, "classes counted from 0"),
    ],
)
def test_what_has_no_classes_can_not_be_balanced(targets: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(errors.SpecUnbuildableError, match=said):
        class_weights("balanced", rows(**targets))


def test_a_weight_is_one_number_that_is_not_negative() -> None:
    assert weights_of("w", np.array([1, 0])).dtype == np.float32
    with pytest.raises(errors.InvalidDataError, match="row 2 is -1"):
        weights_of("w", np.array([1.0, -1.0]))
    with pytest.raises(errors.InvalidDataError, match="each row needs one number"):
        weights_of("w", np.ones((2, 3)))


@pytest.fixture
def weighted_file(images_file: Path, tmp_path: Path) -> Path:
    """The images with a column that counts every second bright-above one not at all."""
    with np.load(images_file) as archive:
        x, y = archive["x"], archive["y"]
    path = tmp_path / "weighted.npz"
    np.savez(path, x=x, y=y, w=np.where(np.arange(len(y)) % 4 == 0, 0.0, 2.0))
    return path


def weighted(body: dict[str, Any]) -> dict[str, Any]:
    body["data"] |= {"sample_weight": "w"}
    body["compile"]["weighted_metrics"] = ["accuracy"]
    body["fit"]["epochs"] = 2
    return body


@pytest.fixture
def undisturbed(weighted_file: Path, tmp_path: Path, recorder):
    """Fit a body in a folder of its own."""

    def undisturbed(body: dict[str, Any], folder: str) -> Trained:
        return fit(
            TrainSpec.model_validate(body),
            data_file=weighted_file,
            workdir=tmp_path / folder,
            seed=11,
            observer=recorder(),
        )

    return undisturbed


def test_rows_count_as_much_as_their_column_says(undisturbed, images_body) -> None:
    plain = undisturbed({**images_body, "fit": {"epochs": 2}}, "plain")
    trained = undisturbed(weighted(images_body), "weighted")
    assert not same_weights(trained.model, plain.model)
    assert {"weighted_accuracy", "val_weighted_accuracy"} <= trained.history.keys()


def test_a_weighted_run_is_resumed_to_the_bit(
    run, undisturbed, images_body, weighted_file: Path, killed
) -> None:
    body = weighted(images_body) | {"checkpoint": {"every_steps": 2}}
    whole = undisturbed(body, "whole")
    killed(body, polls=4, data_file=weighted_file)
    trained = run(body, data_file=weighted_file)
    assert same_weights(trained.model, whole.model)


def test_rows_of_a_table_have_weights_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y,w\n1,0,0.5\n2,1,3\n")
    csv = sources()["csv"]
    options = csv.Options.model_validate(
        {"kind": "csv", "uri": "dataset://t", "features": "a", "label": "y", "sample_weight": "w"}
    )
    assert load(options, DataFile.of(path), seed=0).train.weights.tolist() == [0.5, 3.0]


def test_balanced_weights_reach_keras(run, images_body) -> None:
    images_body["fit"] |= {"epochs": 1, "class_weight": "balanced"}
    assert json.dumps(run(images_body).history)
