"""What is said of a model without making it, against what Keras says of the one that was made."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import psutil
import pytest

from trainer.architecture import build
from trainer.compiling import CompileOptions
from trainer.errors import SpecUnbuildableError
from trainer.inspecting import inspect
from trainer.spec import InspectSpec


def dense(*units: int, **config: Any) -> dict[str, Any]:
    layers = [{"class_name": "Dense", "config": {"units": each, **config}} for each in units]
    return {"kind": "sequential", "layers": layers}


def options_of(model: dict[str, Any]) -> Any:
    return InspectSpec.model_validate({"model": model}).model


def described(model: dict[str, Any], rows: dict[str, tuple[int, ...]] | None, **how: Any) -> dict[str, Any]:
    found = inspect(options_of(model), rows, **how)
    assert json.loads(json.dumps(found)) == found
    return found


# Counted by hand: (inputs + 1) * units each layer, and without bias as many fewer as there are units.
@pytest.mark.parametrize(
    ("inputs", "units", "parameters"),
    [(32, (64,), 2112), (4, (8, 3), 67), (32, (64, 64, 10), 6922), (784, (128, 128, 10), 118_282)],
)
def test_dense_layers_are_counted(inputs: int, units: tuple[int, ...], parameters: int) -> None:
    found = described(dense(*units), {"x": (inputs,)})
    assert found["parameters"] == found["trainable_parameters"] == parameters
    assert found["weight_bytes"] == {"float32": 4 * parameters, "float16": 2 * parameters, "int8": parameters}
    assert described(dense(*units, use_bias=False), {"x": (inputs,)})["parameters"] == parameters - sum(units)
    assert [layer["output_shape"] for layer in found["layers"]] == [[None, each] for each in units]


def test_the_largest_layer_is_named() -> None:
    found = described(dense(128, 128, 10), {"x": (784,)})
    (largest,) = [layer for layer in found["layers"] if layer["name"] == found["largest_layer"]]
    assert largest["parameters"] == 785 * 128


def networks() -> dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]]:
    import keras

    def graph(model: Any) -> dict[str, Any]:
        return {"kind": "keras", "config": json.loads(model.to_json())}

    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    skip = keras.layers.Add()([x, keras.layers.Conv2D(8, 1)(image)])
    flat = keras.layers.GlobalAveragePooling2D()(skip)
    shared = keras.layers.Dense(8, name="shared")
    twice = shared(shared(flat))
    inner = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)], name="inner")
    words = keras.Input((12,), name="words", dtype="int32")
    y = keras.layers.Bidirectional(keras.layers.LSTM(6))(keras.layers.Embedding(50, 5)(words))
    heads = [inner(twice), keras.layers.Dense(1, name="other")(keras.layers.Concatenate()([twice, y]))]
    attended = keras.Input((9, 8), name="tokens")
    z = keras.layers.MultiHeadAttention(2, 4)(attended, attended)
    z = keras.layers.LayerNormalization()(z + attended)
    return {
        "two inputs, a skip, shared and nested layers": (
            graph(keras.Model([image, words], heads)),
            {"image": (16, 16, 3), "words": (12,)},
        ),
        "attention": (graph(keras.Model(attended, keras.layers.Flatten()(z))), {"tokens": (9, 8)}),
    }


@pytest.mark.parametrize("name", ["two inputs, a skip, shared and nested layers", "attention"])
def test_any_graph_is_counted_as_keras_counts_it(name: str) -> None:
    model, rows = networks()[name]
    found = described(model, rows)
    made = build(options_of(model), rows)
    assert found["parameters"] == made.count_params()
    assert found["trainable_parameters"] == sum(weight.numpy().size for weight in made.trainable_weights)
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in made.layers]
    assert [layer["parameters"] for layer in found["layers"]] == [
        layer.count_params() for layer in made.layers
    ]
    shapes = [layer["output_shape"] for layer in found["layers"]]
    assert shapes == [list(layer._inbound_nodes[0].outputs[0].shape) for layer in made.layers]


def test_without_a_row_it_says_so_as_keras_builds_lazily() -> None:
    found = described(dense(8, 3), None)
    assert (found["built"], "parameters" in found) == (False, False)
    assert [layer["class_name"] for layer in found["layers"]] == ["Dense", "Dense"]
    assert found["layers"][0]["parameters"] is None
    assert "shape of a row" in found["detail"]
    assert described(dense(8, 3) | {"input_shape": [4]}, None)["parameters"] == 67


def test_a_model_of_a_hundred_billion_weights_takes_no_memory() -> None:
    before = psutil.Process().memory_info().rss
    found = described(dense(400_000, 250_000), {"x": (1000,)}, how=CompileOptions(optimizer="adam"))
    assert found["parameters"] > 100e9
    assert psutil.Process().memory_info().rss - before < 200e6


@pytest.mark.parametrize(("optimizer", "slots"), [("sgd", 0), ("adam", 2), ("rmsprop", 1)])
def test_the_optimizers_slots_are_counted(optimizer: str, slots: int) -> None:
    found = described(dense(100), {"x": (99,)}, how=CompileOptions(optimizer=optimizer), batch_size=7)
    training = found["training_bytes"]
    assert (training["weights"], training["gradients"]) == (40_000, 40_000)
    assert training["optimizer"] == pytest.approx(slots * 40_000, abs=100)
    assert training["activations"] == 7 * 100 * 4 * 2.5
    assert training["total"] == sum(
        training[part] for part in ("weights", "gradients", "optimizer", "update", "activations")
    )


def test_what_keras_refuses_is_told_with_its_layer() -> None:
    flat = {
        "kind": "sequential",
        "layers": [{"class_name": "Conv2D", "config": {"filters": 1, "kernel_size": 3}}],
    }
    with pytest.raises(SpecUnbuildableError, match="layer 0"):
        inspect(options_of(flat), {"x": (4,)})


# In a process of its own: what others have taken and given back would hide the peak.
PEAK = """
import json, resource, sys
import keras, numpy as np, psutil, tensorflow as tf
from trainer.architecture import build
from trainer.compiling import CompileOptions
from trainer.inspecting import inspect
from trainer.spec import InspectSpec

order = json.loads(sys.argv[1])
model = InspectSpec.model_validate({"model": order["model"]}).model
shape, batch = tuple(order["shape"]), order["batch"]
rows = np.random.default_rng(1).integers(0, order["values"], (4 * batch, *shape)).astype(order["dtype"])
labels = np.zeros(len(rows), np.int64)
before = psutil.Process().memory_info().rss
made = build(model, {"x": shape})
made.compile(order["optimizer"], "sparse_categorical_crossentropy")
made.fit(rows, labels, batch_size=batch, epochs=2, verbose=0)
grew = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
how = CompileOptions(optimizer=order["optimizer"])
told = inspect(model, {"x": shape}, how=how, batch_size=batch)["training_bytes"]["total"]
print(json.dumps({"grew": grew, "told": told + rows.nbytes}))
"""


def layer(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


CONV = {"kernel_size": 3, "padding": "same", "activation": "relu"}
LARGE: dict[str, dict[str, Any]] = {
    "weights": {
        "layers": [layer("Dense", units=6000), layer("Dense", units=6000)],
        "shape": [2000],
        "batch": 64,
    },
    "images": {
        "layers": [
            layer("Conv2D", filters=32, **CONV),
            layer("BatchNormalization"),
            layer("Conv2D", filters=32, **CONV),
            layer("MaxPooling2D"),
            layer("Conv2D", filters=64, **CONV),
            layer("GlobalAveragePooling2D"),
        ],
        "shape": [64, 64, 3],
        "batch": 128,
    },
    "words": {
        "layers": [layer("Embedding", input_dim=200_000, output_dim=256), layer("LSTM", units=256)],
        "shape": [64],
        "batch": 64,
        "dtype": "int32",
        "values": 200_000,
    },
}


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(LARGE))
def test_the_memory_of_training_is_told_to_a_quarter(name: str) -> None:
    case = {"optimizer": "adam", "dtype": "float32", "values": 2, **LARGE[name]}
    layers = [*case.pop("layers"), layer("Dense", units=10, activation="softmax")]
    order = json.dumps({**case, "model": {"kind": "sequential", "layers": layers}})
    done = subprocess.run([sys.executable, "-c", PEAK, order], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["grew"] > 500e6
    assert found["told"] == pytest.approx(found["grew"], rel=0.25), found
