import pytest

from trainer.objects import MAX_DEPTH, completed, object_faults, size_faults


def layer(class_name, config=None, **more):
    return {"class_name": class_name, "config": config or {}, **more}


def dense(**config):
    return layer("Dense", {"units": 3, **config})


def model(*layers, **more):
    return layer("Sequential", {"name": "m", "layers": list(layers)}, **more)


HOSTILE = {
    "code in a Lambda": (layer("Lambda", {"function": "x"}), ("class_name",)),
    "files through TFSMLayer": (layer("TFSMLayer", {"filepath": "/etc"}), ("class_name",)),
    "JaxLayer": (layer("JaxLayer"), ("class_name",)),
    "a class of the standard library": (layer("Popen", module="subprocess"), ("class_name",)),
    "a module of another name": (dense() | {"module": "os"}, ("module",)),
    "a registered name that wins over the class": (
        dense() | {"registered_name": "pkg>Evil"},
        ("registered_name",),
    ),
    "a function object as activation": (
        dense(activation=layer("function", "system", module="os")),
        ("config", "activation", "class_name"),
    ),
    "lambda bytecode as initializer": (
        dense(kernel_initializer=layer("__lambda__", {"value": "x"})),
        ("config", "kernel_initializer", "class_name"),
    ),
    "a vocabulary file": (layer("StringLookup", {"vocabulary": "/etc/passwd"}), ("config", "vocabulary")),
    "weights of a vocabulary from a file": (
        layer("TextVectorization", {"vocabulary": ["a"], "idf_weights": "/etc/passwd"}),
        ("config", "idf_weights"),
    ),
    "a path": (dense(filepath="/etc/passwd"), ("config", "filepath")),
    "a call function": (dense(call_fn="os.system"), ("config", "call_fn")),
    "a Lambda inside a wrapper": (
        layer("TimeDistributed", {"layer": layer("Lambda")}),
        ("config", "layer", "class_name"),
    ),
    "a Lambda inside a list of cells": (
        layer("StackedRNNCells", {"cells": [layer("GRUCell", {"units": 2}), layer("Lambda")]}),
        ("config", "cells", 1, "class_name"),
    ),
    "a Lambda inside plain data": (
        layer("Add", build_config={"input_shape": [layer("Lambda")]}),
        ("build_config", "input_shape", 0, "class_name"),
    ),
    "an unknown class inside a node": (
        layer("Add", inbound_nodes=[{"args": [layer("__typespec__", [])]}]),
        ("inbound_nodes", 0, "args", 0, "class_name"),
    ),
    "a class name that is no string": (layer(["Dense"]), ("class_name",)),
    "a module that is no string": (dense() | {"module": ["keras.layers"]}, ("module",)),
    "a policy from elsewhere": (
        dense(dtype=layer("DTypePolicy", module="os")),
        ("config", "dtype", "module"),
    ),
    "a huge layer": (dense(units=2_000_000_000), ("config", "units")),
    "no object at all": ("Dense", ()),
}


@pytest.mark.parametrize(("value", "place"), HOSTILE.values(), ids=HOSTILE)
def test_what_could_reach_code_or_files_is_refused(value, place):
    assert place in [fault.loc for fault in object_faults(value, "layers")]


def test_a_layer_deep_inside_models_is_found():
    nested = model(model(layer("Lambda")))
    places = [fault.loc for fault in object_faults(nested, "models")]
    assert places == [("config", "layers", 0, "config", "layers", 0, "class_name")]


@pytest.mark.parametrize(
    "value",
    [
        dense(kernel_regularizer="l2", bias_initializer="zeros", activation="gelu", dtype="mixed_bfloat16"),
        dense(kernel_regularizer=layer("L2", {"l2": 1e-4}), kernel_constraint=None),
        layer("MaxPooling1D", {"pool_size": [2]}),
        layer("Dropout", {"rate": 1}),
        layer("StringLookup", {"vocabulary": ["a", "b"]}),
        layer("Bidirectional", {"layer": layer("LSTM", {"units": 4})}),
        layer("Dense", {"units": 3.0}, registered_name=None, module="keras.layers", shared_object_id=3),
    ],
    ids=lambda value: value["class_name"],
)
def test_what_keras_takes_passes(value):
    assert list(object_faults(value, "layers")) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (layer("dense", {"units": 1}), "unknown layer 'dense'; did you mean 'Dense'?"),
        (layer("Adam"), "Adam is no layer but an optimizer"),
        (dense(units=2.5), "Dense takes an integer here, received 2.5"),
        (dense(units=None), "Dense requires units, received null"),
        (dense(use_bias="no"), "Dense takes a boolean here, received 'no'"),
        (dense(activation="rely"), "unknown activation 'rely'; did you mean 'relu'?"),
        (dense(kernel_initializer="he_norml"), "unknown initializer 'he_norml'; did you mean 'he_normal'?"),
    ],
)
def test_a_refusal_says_what_would_be_valid(value, message):
    assert [fault.detail for fault in object_faults(value, "layers")] == [message]


def test_sizes_are_capped_before_anything_else_is_read():
    deep = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    assert "nested deeper" in size_faults(deep)[0].detail
    assert "more than" in size_faults([0] * 300_000)[0].detail
    assert "largest integer" in size_faults({"units": 10**30})[0].detail
    assert "no JSON number" in size_faults([float("nan")])[0].detail
    assert "not a JSON value" in size_faults({"units": object()})[0].detail
    assert size_faults({"a": [1, 2.5, None, True, "x"]}) == []


def test_an_object_is_completed_with_modules_and_the_defaults_keras_wants_spelled_out():
    assert completed(layer("Rescaling", {"scale": 0.5})) == {
        "class_name": "Rescaling",
        "module": "keras.layers",
        "registered_name": None,
        "config": {"scale": 0.5, "offset": 0.0},
    }
    wrapped = completed(layer("TimeDistributed", {"layer": {"class_name": "Flatten"}}))
    assert wrapped["config"]["layer"]["module"] == "keras.layers"
