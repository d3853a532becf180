import json
import time

import numpy as np
import pytest

from trainer import errors
from trainer.fit import fit
from trainer.observer import Interruption


@pytest.mark.full
def test_digits_are_learnt(digits_file, example, recorder, tmp_path):
    started = time.monotonic()
    observer = recorder()
    trained = fit(example("digits"), data_file=digits_file, workdir=tmp_path, seed=7, observer=observer)

    # 0.989 was seen for the seeds 7, 1 and 2, in 9 to 14 s on two shared cores.
    assert trained.metrics["test"]["accuracy"] >= 0.97
    assert observer.phases == ["loading_data", "training"]
    assert [epoch.epoch for epoch in observer.epochs] == list(range(1, trained.epochs_run + 1))
    assert time.monotonic() - started < 120
    assert (trained.inputs[0].name, trained.inputs[0].shape) == ("features", (None, 8, 8, 1))
    assert len(trained.rows.held_out) == len(trained.rows.held_out.targets["label"])
    assert trained.rows.representative["features"].dtype == np.float32


@pytest.mark.full
def test_a_table_is_learnt(breast_cancer_file, example, recorder, tmp_path):
    trained = fit(
        example("breast_cancer"), data_file=breast_cancer_file, workdir=tmp_path, seed=7, observer=recorder()
    )
    assert trained.metrics["test"]["accuracy"] >= 0.95
    assert "val_auc" in trained.history


@pytest.mark.parametrize(
    "loss",
    [{"total": "mse", "sign": "binary_crossentropy"}, ["mse", "binary_crossentropy"]],
    ids=["named", "listed"],
)
def test_two_inputs_and_two_outputs_are_trained_by_name(run, tmp_path, loss):
    import keras

    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    x = keras.layers.Concatenate()([left, right])
    outputs = {
        "total": keras.layers.Dense(1, name="total")(x),
        "sign": keras.layers.Dense(1, "sigmoid", name="sign")(x),
    }
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)), rng.normal(size=(400, 2))
    total = a.sum(axis=1) + b.sum(axis=1)
    np.savez(tmp_path / "pairs.npz", a=a, b=b, total=total, sign=(total > 0).astype(np.int64))
    body = {
        "model": {"kind": "keras", "config": keras.Model([left, right], outputs).to_json()},
        "data": {
            "kind": "npz", "uri": "u", "features": {"left": "a", "right": "b"},
            "label": {"sign": "sign", "total": "total"}, "validation_split": 0.25,
        },
        "compile": {
            "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.05}},
            "loss": loss, "metrics": {"sign": ["accuracy"]},
        },
        "fit": {"epochs": 6},
    }  # fmt: skip

    trained = run(body, data_file=tmp_path / "pairs.npz")

    assert trained.metrics["last"]["val_sign_accuracy"] > 0.9
    assert set(trained.rows.held_out.features) == {"left", "right"}
    kinds = {name: found["kind"] for name, found in trained.judgement["outputs"].items()}
    assert kinds == {"total": "numbers", "sign": "classes"}
    assert len(trained.rows.held_out) == 100


def test_the_callers_progress_and_points_add_up(run, images_body, recorder):
    observer = recorder()
    trained = run(images_body, observer)
    assert [(point.epoch, point.step) for point in observer.epochs] == [(1, 6), (2, 12), (3, 18), (4, 24)]
    assert set(observer.epochs[0].metrics) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert trained.history["loss"] == [point.metrics["loss"] for point in observer.epochs]
    assert observer.progresses[-1].fraction == 1
    assert trained.metrics["test"] is None
    assert trained.metrics["last"] == observer.epochs[-1].metrics


def test_a_run_cancelled_in_validation_ends_there(run, images_body, recorder):
    observer = recorder(Interruption.CANCEL, after=6)
    with pytest.raises(errors.Cancelled):
        run(images_body, observer)
    assert (observer.polls, observer.epochs) == (6, [])


def test_a_cancelled_run_ends_at_once(run, images_body, recorder):
    observer = recorder(Interruption.CANCEL, after=3)
    with pytest.raises(errors.Cancelled):
        run(images_body, observer)
    assert observer.polls == 3


@pytest.mark.parametrize("wanted", ["best", "last", None])
def test_the_weights_asked_for_are_exported(run, images_body, wanted):
    images_body["compile"]["optimizer"]["config"]["learning_rate"] = 0.5  # so that the last is not the best
    images_body["fit"]["callbacks"] = [
        {"class_name": "EarlyStopping", "config": {"patience": 1, "restore_best_weights": wanted is not None}}
    ]
    trained = run(images_body | {"export_weights": wanted})
    assert trained.best_epoch < trained.epochs_run

    held_out = trained.rows.held_out
    loss = trained.model.evaluate(held_out.features["features"], held_out.targets["label"], verbose=0)[0]
    which = "best" if wanted == "best" else "last"
    assert loss == pytest.approx(trained.metrics[which]["val_loss"], rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_run(run, images_body):
    images_body["compile"]["optimizer"] = {"class_name": "SGD", "config": {"learning_rate": 1e38}}
    with pytest.raises(errors.NanLossError, match="the loss became nan in epoch 1") as caught:
        run(images_body)
    assert caught.value.code == "nan_loss"


@pytest.mark.parametrize(
    ("loss", "message"),
    [("categorical_crossentropy", "rank"), ("mse", "Incompatible shapes")],
)
def test_a_label_that_does_not_fit_the_output_is_explained(run, images_body, loss, message):
    images_body["compile"]["loss"] = loss
    with pytest.raises(errors.SpecUnbuildableError, match=message):
        run(images_body)


def test_a_label_beyond_the_classes_is_invalid_data(run, images_body, tmp_path):
    y = np.arange(120) % 3
    np.savez(tmp_path / "three.npz", x=np.ones((120, 6, 6, 1)), y=y)
    with pytest.raises(
        errors.InvalidDataError, match=r"the label holds 2, the model takes whole numbers in \[0, 2\)"
    ):
        run(images_body, data_file=tmp_path / "three.npz")


def test_a_class_that_weighs_more_is_predicted_more(run, images_body):
    images_body["fit"] = {"epochs": 2, "class_weight": {"0": 1, "1": 50}}
    trained = run(images_body)
    predicted = trained.model.predict(trained.rows.held_out.features["features"], verbose=0).argmax(axis=1)
    assert predicted.mean() > 0.5


def test_an_attempts_answers_are_plain_data(run, images_body):
    images_body["fit"]["epochs"] = 1
    trained = run(images_body)
    assert json.loads(json.dumps([trained.metrics, trained.history])) == [trained.metrics, trained.history]


def test_what_looks_wrong_in_the_data_is_noted_before_training(images_body, recorder, tmp_path):
    from trainer.spec import TrainSpec

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "twice.npz", x=np.concatenate([x, x]), y=np.arange(80) % 2)
    images_body["data"] |= {"split": None, "validation_split": 0.25}
    observer = recorder()
    spec = TrainSpec.model_validate(images_body)
    fit(spec, data_file=tmp_path / "twice.npz", workdir=tmp_path / "work", seed=7, observer=observer)
    assert observer.notes[0] == (
        "looks wrong in the data: row 61: 20 of 20 validation rows have a training row's features"
    )
