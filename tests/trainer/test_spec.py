import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from trainer.spec import TrainSpec


class JobSpec(TrainSpec):
    """What a service adds to a training spec."""

    name: str


def faults(body, model=TrainSpec):
    """Return the message of each fault by its place."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def test_a_spec_needs_neither_tensorflow_nor_numpy():
    program = "import sys, trainer.spec;print({'tensorflow', 'keras', 'numpy', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_spec_survives_json(images_body):
    spec = TrainSpec.model_validate(images_body)
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


def test_every_fault_of_a_body_is_told_at_once_at_its_place(images_body):
    layers = images_body["model"]["layers"]
    layers[0]["config"] |= {"filters": "many", "activaton": "relu"}
    layers[1]["class_name"] = "BatchNormalisation"
    layers[5]["config"]["kernel_initializer"] = {"class_name": "HeNormall"}
    images_body["data"]["split"]["fractions"] = [0.8, 0.4]
    images_body["data"]["pipeline"]["batchsize"] = 3
    images_body["compile"]["optimizer"]["config"] = {"learning_rte": 0.1}
    images_body["compile"]["loss"] = "msee"
    images_body["compile"]["metrics"] = ["accuracy", "acuracy"]
    images_body["fit"] = {"epochs": 0, "callbacks": [{"class_name": "EarlyStoping"}]}
    images_body["sed"] = 3

    found = faults(images_body, JobSpec)

    assert found == {
        ("model", "layers", 0, "config", "filters"): "Conv2D takes an integer here, received 'many'",
        (
            "model",
            "layers",
            0,
            "config",
            "activaton",
        ): "Conv2D has no argument 'activaton'; did you mean 'activation'?",
        (
            "model",
            "layers",
            1,
            "class_name",
        ): "unknown layer 'BatchNormalisation'; did you mean 'BatchNormalization'?",
        (
            "model",
            "layers",
            5,
            "config",
            "kernel_initializer",
            "class_name",
        ): "unknown initializer 'HeNormall'; did you mean 'he_normal'?",
        ("data", "split", "fractions"): "must sum to 1, these sum to 1.2",
        ("data", "pipeline", "batchsize"): "unknown field 'batchsize'; did you mean 'batch_size'?",
        ("compile", "optimizer", "config", "learning_rte"): "Adam has no argument 'learning_rte'; "
        "did you mean 'learning_rate'?",
        ("compile", "loss"): "unknown loss 'msee'; did you mean 'mse'?",
        ("compile", "metrics", 1): "unknown metric 'acuracy'; did you mean 'accuracy'?",
        ("fit", "epochs"): "Input should be greater than or equal to 1",
        (
            "fit",
            "callbacks",
            0,
            "class_name",
        ): "unknown callback 'EarlyStoping'; did you mean 'EarlyStopping'?",
        ("name",): "Field required",
        ("sed",): "unknown field 'sed'; did you mean 'seed'?",
    }


@pytest.mark.parametrize(
    ("section", "value", "place", "message"),
    [
        ("model", {"kind": "sequental"}, ("model", "kind"), "kind 'sequental'; did you mean 'sequential'?"),
        ("model", {"layers": []}, ("model", "kind"), "missing; valid kinds: keras, plugin, sequential"),
        ("model", {"kind": "sequential", "layers": []}, ("model", "layers"), "needs at least 1, has 0"),
        ("model", {"kind": "sequential", "layers": [{"class_name": "Dense"}]},
         ("model", "layers", 0, "config", "units"), "Dense requires units"),
        ("model", {"kind": "keras", "config": "{"}, ("model", "config"), "not the JSON that model.to_json()"),
        ("model", {"kind": "keras", "config": {"class_name": "Functional", "config": {"layers": []}}},
         ("model", "config", "config", "layers"), "expected a list of at least one layer"),
        ("data", {"kind": "npz", "uri": "u", "features": 3, "label": "y"}, ("data", "features"),
         "expected a column, a list of columns, or an object from input names to columns"),
        ("data", {"kind": "npz", "uri": "u", "features": "x", "label": "y", "validation_split": 0.2,
                  "split": {"fractions": [0.5, 0.5]}}, ("data",), "exclude each other"),
        ("data", {"kind": "csv", "uri": "u", "features": "a", "label": "y",
                  "columns": {"y": {"kind": "category", "vocabulary": ["a", 1, "a"]}}},
         ("data", "columns", "y", "vocabulary", 2), "'a' is there already, at 0"),
        ("data", {"kind": "csv", "uri": "u", "features": "a", "label": "y",
                  "columns": {"a": {"kind": "date", "missing": "20240101"}}},
         ("data", "columns", "a", "missing"), "a date is written as 2024-02-29"),
        ("compile", {"loss": {"class_name": "Huber", "config": {"dlta": 1}}},
         ("compile", "loss", "config", "dlta"), "Huber has no argument 'dlta'; did you mean 'delta'?"),
        ("compile", {"loss": {"out": "mse", "aux": "mea"}}, ("compile", "loss", "aux"), "unknown loss 'mea'"),
        ("compile", {"loss": "mse", "optimizer": "addam"}, ("compile", "optimizer"),
         "unknown optimizer 'addam'; did you mean 'adam'?"),
        ("fit", {"callbacks": [{"class_name": "ModelCheckpoint", "config": {"filepath": "/etc/passwd"}}]},
         ("fit", "callbacks", 0, "config", "filepath"), "paths belong to the job: leave it out"),
        ("fit", {"callbacks": [{"class_name": "EarlyStopping", "config": {"patience": "long"}}]},
         ("fit", "callbacks", 0, "config", "patience"), "valid integer"),
        ("checkpoint", {"every_steps": 0}, ("checkpoint", "every_steps"), "greater than or equal to 1"),
        ("checkpoint", {"every_steps": 2.5}, ("checkpoint", "every_steps"), "valid integer"),
        ("checkpoint", {"every_s": 0}, ("checkpoint", "every_s"), "greater than 0"),
        ("checkpoint", {"every_s": "60"}, ("checkpoint", "every_s"), "valid number"),
        ("checkpoint", {"every_step": 5}, ("checkpoint", "every_step"), "did you mean 'every_steps'?"),
        ("checkpoint", 60, ("checkpoint",), "valid dictionary"),
        ("seed", 2**31, ("seed",), "less than 2147483648"),
        ("export_weights", "first", ("export_weights",), "'best' or 'last'"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place_and_what_is_valid(images_body, section, value, place, message):
    found = faults(images_body | {section: value})
    assert list(found) == [place]
    assert message in found[place]


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("compile", {"loss": "MSE", "optimizer": "Adam", "metrics": ["acc", {"class_name": "F1Score"}]}),
        ("compile", {"loss": ["mse", None], "metrics": [["mae"], []], "loss_weights": [1, 0.5]}),
        ("compile", {"loss": {"a": "mse"}, "metrics": {"a": ["mae"], "b": "accuracy"}}),
        ("compile", {"loss": "mse", "optimizer": {"class_name": "SGD", "config": {"learning_rate": {
            "class_name": "ExponentialDecay",
            "config": {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}}}}}),
        ("data", {"kind": "csv", "uri": "u", "features": {"left": ["a"], "right": "b"}, "label": {"out": "y"},
                  "columns": {"a": {"kind": "number"}}}),
        ("fit", {"epochs": 3, "class_weight": {"0": 1, "1": 10}}),
        ("checkpoint", {"every_steps": 500, "every_s": 0.5}),
        ("checkpoint", {"every_s": 600}),
    ],
)  # fmt: skip
def test_the_forms_that_keras_users_know_are_accepted(images_body, section, value):
    TrainSpec.model_validate(images_body | {section: value})


def test_a_running_epoch_is_checkpointed_every_minute_by_default(images_body):
    options = TrainSpec.model_validate(images_body).checkpoint
    assert (options.every_steps, options.every_s) == (None, 60)


def test_monitoring_validation_without_validation_rows_is_a_fault(images_body):
    del images_body["data"]["split"]
    images_body["fit"]["callbacks"] = [{"class_name": "EarlyStopping"}]
    found = faults(images_body)
    assert "val_loss needs validation rows" in found["fit", "callbacks", 0, "config", "monitor"]


def test_the_json_schema_shows_every_kind(images_body):
    text = json.dumps(TrainSpec.model_json_schema())
    assert all(f'"{kind}"' in text for kind in ("sequential", "keras", "npz", "csv", "EarlyStopping"))
