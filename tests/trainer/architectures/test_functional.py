import json

import pytest

from trainer.architecture import build, inputs_of, outputs_of
from trainer.architectures.functional import Options
from trainer.errors import SpecUnbuildableError


def two_inputs_two_outputs():
    import keras

    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    shared = keras.layers.Dense(4, activation="relu", name="shared")
    x = keras.layers.Concatenate()([shared(left), shared(keras.layers.Dense(3)(right))])
    x = x * 0.5 + keras.ops.mean(x, axis=1, keepdims=True)
    outputs = {"sum": keras.layers.Dense(1, name="sum")(x), "side": keras.layers.Dense(2, name="side")(x)}
    model = keras.Model([left, right], outputs)
    model.compile("adam", {"sum": "mse", "side": "mse"})
    return model


@pytest.mark.parametrize("form", [json.loads, str], ids=["object", "string"])
def test_what_to_json_writes_is_built_with_operators_and_shared_layers(form):
    document = form(two_inputs_two_outputs().to_json())
    model = build(Options(kind="keras", config=document), {"left": (3,), "right": (2,)})
    assert [info.name for info in inputs_of(model)] == ["left", "right"]
    assert {info.name: info.shape for info in outputs_of(model)} == {"sum": (None, 1), "side": (None, 2)}


def test_a_document_shortened_by_hand_is_built_too():
    """Without modules, and with Keras's short form of a node."""
    layers = [
        {"class_name": "InputLayer", "name": "x", "config": {"name": "x", "batch_shape": [None, 3]}},
        {
            "class_name": "Dense",
            "name": "y",
            "config": {"name": "y", "units": 2},
            "inbound_nodes": [[["x", 0, 0]]],
        },
    ]
    layers[0]["inbound_nodes"] = []
    config = {"name": "short", "layers": layers, "input_layers": ["x", 0, 0], "output_layers": ["y", 0, 0]}
    model = build(Options(kind="keras", config={"class_name": "Functional", "config": config}), {"x": (3,)})
    assert (model.count_params(), [info.name for info in outputs_of(model)]) == (8, ["y"])


def test_how_the_document_was_compiled_is_left_out():
    options = Options(kind="keras", config=two_inputs_two_outputs().to_json())
    assert "compile_config" not in options.config


def test_inputs_are_matched_by_name():
    options = Options(kind="keras", config=two_inputs_two_outputs().to_json())
    with pytest.raises(SpecUnbuildableError, match="inputs are called left, right, data"):
        build(options, {"left": (3,), "wright": (2,)})
    with pytest.raises(SpecUnbuildableError, match="the model has 2 inputs"):
        build(options, {"left": (3,)})


def test_a_sequential_document_without_an_input_is_built_on_the_data():
    import keras

    document = keras.Sequential([keras.layers.Dense(2)]).to_json()
    model = build(Options(kind="keras", config=document), {"features": (4,)})
    assert model.count_params() == 10


def test_a_graph_that_keras_refuses_is_unbuildable():
    document = json.loads(two_inputs_two_outputs().to_json())
    document["config"]["output_layers"]["sum"] = ["absent", 0, 0]
    with pytest.raises(SpecUnbuildableError) as caught:
        build(Options(kind="keras", config=document), {"left": (3,), "right": (2,)})
    assert caught.value.code == "spec_unbuildable"
