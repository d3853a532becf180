"""Mixed precision: the same as Keras's own policy, resumed to the bit, and float32 for the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from trainer.fit import fit
from trainer.objects import completed
from trainer.precision import Precision, compute_in
from trainer.spec import TrainSpec

MIXED = [Precision.MIXED_FLOAT16, Precision.MIXED_BFLOAT16]
LAYERS = [
    {"class_name": "Dense", "config": {"units": 8, "activation": "relu"}},
    {"class_name": "Dropout", "config": {"rate": 0.2}},
    {"class_name": "BatchNormalization"},
    {"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}},
]


@pytest.fixture
def body(images_document: dict[str, Any]) -> dict[str, Any]:
    """A network of dense layers: convolutions in float16 take a CPU long."""
    layers = [{"class_name": "Flatten"}, *LAYERS]
    return images_document | {
        "model": {"kind": "sequential", "layers": layers},
        "checkpoint": {"every_steps": 2},
        "fit": {"epochs": 2},
    }


@pytest.mark.parametrize("precision", MIXED)
def test_layers_compute_as_under_keras_own_policy(precision: Precision) -> None:
    import keras

    def built() -> keras.Model:
        layers = [keras.layers.deserialize(completed(layer)) for layer in LAYERS[:-1]]
        last = keras.layers.Dense(2, activation="softmax", dtype="float32")
        return keras.Sequential([keras.Input((4,)), *layers, last])

    def trained(model: keras.Model) -> keras.Model:
        model.compile("adam", "sparse_categorical_crossentropy")
        rows = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
        keras.utils.set_random_seed(3)
        model.fit(rows, (rows[:, 0] > 0).astype(int), epochs=2, verbose=0, shuffle=False)
        return model

    keras.config.set_dtype_policy(precision.value)
    try:
        keras.utils.set_random_seed(2)
        theirs = trained(built())
    finally:
        keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(2)
    model = built()
    compute_in(model, precision)
    ours = trained(model)
    assert type(ours.optimizer) is type(theirs.optimizer)
    assert same_weights(ours, theirs)
    compute_in(ours, Precision.FLOAT32)
    assert {layer.compute_dtype for layer in ours.layers} == {"float32"}


def test_what_a_layer_asks_for_itself_it_keeps() -> None:
    import keras

    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(2, dtype="float64"),
            keras.layers.Dense(2),
            keras.layers.Dense(1),
        ]
    )
    compute_in(model, Precision.MIXED_BFLOAT16)
    assert [layer.compute_dtype for layer in model.layers] == ["float64", "bfloat16", "float32"]


def test_each_output_of_a_graph_is_float32_within_nested_models_too() -> None:
    import keras

    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(2, name="deep")])
    entry = keras.Input((3,))
    wide = keras.layers.Dense(3, name="wide")(entry)
    model = keras.Model(entry, [inner(wide), keras.layers.Dense(1, name="head")(wide)])
    compute_in(model, Precision.MIXED_BFLOAT16)
    found = {
        layer.name: layer.compute_dtype for layer in model._flatten_layers() if "Dense" in str(type(layer))
    }
    assert (found["wide"], found["head"], found["deep"]) == ("bfloat16", "float32", "float32")
    assert {output.dtype.name for output in model(np.ones((1, 3), np.float32))} == {"float32"}


@pytest.mark.parametrize("precision", [MIXED[0], pytest.param(MIXED[1], marks=pytest.mark.full)])
def test_a_run_in_mixed_precision_is_resumed_to_the_bit(
    run, body, killed, images_file: Path, tmp_path: Path, recorder, precision: Precision
) -> None:
    body["resources"] = {"precision": precision.value}
    spec = TrainSpec.model_validate(body)
    whole = fit(spec, data_file=images_file, workdir=tmp_path / "whole", seed=11, observer=recorder())
    killed(body, polls=11)
    trained = run(body)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)
    assert {layer.compute_dtype for layer in trained.model.layers} == {"float32"}
