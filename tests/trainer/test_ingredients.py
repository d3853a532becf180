"""Every activation, initializer, regularizer and constraint that Keras has, by name and by configuration.

Each is a layer's own, all of them in one model that is trained; what they did is compared with Keras's own.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.exported import exported
from trainer.catalog import catalog
from trainer.fit import Trained
from trainer.objects import name_faults

ROWS, WIDTH = 16, 6
# `seed` makes an initializer's draw comparable.
INITIALIZERS: dict[str, dict[str, Any]] = {
    "Constant": {"value": 0.3},
    "GlorotNormal": {"seed": 1},
    "GlorotUniform": {"seed": 2},
    "HeNormal": {"seed": 3},
    "HeUniform": {"seed": 4},
    "Identity": {"gain": 0.5},
    "LecunNormal": {"seed": 5},
    "LecunUniform": {"seed": 6},
    "Ones": {},
    "Orthogonal": {"gain": 2.0, "seed": 7},
    "RandomNormal": {"mean": 0.1, "stddev": 0.2, "seed": 8},
    "RandomUniform": {"minval": 0.1, "maxval": 0.2, "seed": 9},
    "TruncatedNormal": {"stddev": 0.2, "seed": 10},
    "VarianceScaling": {"scale": 2.0, "mode": "fan_avg", "distribution": "uniform", "seed": 11},
    "Zeros": {},
}
# Frames of a signal times frequencies: (time steps, channels in, frequencies), by one of its sides.
STFT: dict[str, Any] = {"side": "imag", "window": "hann", "scaling": "density"}
REGULARIZERS: dict[str, dict[str, Any]] = {
    "L1": {"l1": 0.02},
    "L1L2": {"l1": 0.01, "l2": 0.03},
    "L2": {"l2": 0.04},
    "OrthogonalRegularizer": {"factor": 0.05, "mode": "columns"},
}
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "MaxNorm": {"max_value": 0.3},
    "MinMaxNorm": {"min_value": 0.2, "max_value": 0.4, "rate": 1.0},
    "NonNeg": {},
    "UnitNorm": {"axis": 0},
}
TRIED = {
    "Initializer": INITIALIZERS.keys() | {"STFT"},
    "Regularizer": REGULARIZERS.keys(),
    "Constraint": CONSTRAINTS.keys(),
}
NO_NAME = {
    "glu": "halves the last axis, and no layer that takes an activation tells the next one",
    "threshold": "takes two more arguments, which a name can't carry",
}


@pytest.mark.parametrize("base", TRIED)
def test_all_that_keras_exports_is_tried(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = exported(f"keras.{base.lower()}s", base)
    assert TRIED[base] == known - {base}  # which is abstract
    with capsys.disabled():
        print(f"\n{len(TRIED[base])} of {len(known)} {base.lower()}s are tried")  # noqa: T201 - the figure


def test_all_activations_that_keras_exports_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    import keras

    functions = {name for name, value in vars(keras.activations).items() if inspect.isfunction(value)}
    known = functions - {"get", "serialize", "deserialize"}
    assert catalog().activations == known - NO_NAME.keys()
    with capsys.disabled():
        print(f"\n{len(catalog().activations)} of {len(known)} activations are tried")  # noqa: T201 - the figure


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    path = tmp_path_factory.mktemp("ingredients") / "ingredients.npz"
    np.savez(
        path,
        x=rng.normal(size=(ROWS, WIDTH)).astype(np.float32),
        y=rng.uniform(size=(ROWS, 1)).astype(np.float32),
    )
    return path


@pytest.fixture
def train(run: Any, data: Path) -> Any:
    """Fit a model that has the given layers side by side, for two epochs of two steps."""

    def train(layers: dict[str, dict[str, Any]]) -> Trained:
        import keras

        x = keras.Input((WIDTH,), name="x")
        sides = [keras.layers.Dense(WIDTH, name=name)(x) for name in layers]
        answer = keras.layers.Dense(1)(keras.layers.Concatenate()(sides) if len(sides) > 1 else sides[0])
        document = json.loads(keras.Model(x, answer).to_json())
        for layer in document["config"]["layers"]:
            layer["config"] |= layers.get(layer["config"]["name"], {})
        body = {
            "model": {"kind": "keras", "config": document},
            "data": {
                "kind": "npz",
                "uri": "dataset://ingredients",
                "features": "x",
                "label": "y",
                "pipeline": {"batch_size": ROWS // 2},
            },
            "compile": {
                "optimizer": {"class_name": "SGD", "config": {"learning_rate": 1e-3}},
                "loss": "mse",
                "metrics": ["mse"],
            },
            "fit": {"epochs": 2},
            "seed": 11,
        }
        trained: Trained = run(body, data_file=data)
        assert all(np.isfinite(weight).all() for weight in trained.model.get_weights())
        return trained

    return train


def numbered(argument: str, values: list[Any], **more: Any) -> dict[str, dict[str, Any]]:
    """A layer for each value of its argument, called by the value's place."""
    return {f"side_{place}": {argument: value, **more} for place, value in enumerate(values)}


def named_and_configured(section: str, configs: dict[str, dict[str, Any]]) -> list[Any]:
    """Every string that means one of these, and each by its configuration."""
    known = catalog()
    classes = {name: known.aliases[section].get(name, name) for name in known.names(section)}
    meant = {name: classes.get(value, value) for name, value in classes.items()}
    other_names = {"l1_l2": "L1L2"}
    names = [name for name, value in sorted(meant.items()) if other_names.get(value, value) in configs]
    return names + [{"class_name": name, "config": config} for name, config in configs.items()]


def made(section: str, value: Any) -> Any:
    """What Keras makes of it."""
    import keras

    public = getattr(keras, section)
    if isinstance(value, dict):
        return getattr(public, value["class_name"])(**value["config"])
    return getattr(public, value)() if hasattr(public, value) else public.get(value)


def test_an_activation_is_what_keras_computes(train: Any) -> None:
    import keras

    names = sorted(catalog().activations)
    trained = train(numbered("activation", names))
    rows = next(iter(trained.rows.held_out.features.values()))
    for place, name in enumerate(names):
        layer = trained.model.get_layer(f"side_{place}")
        function = getattr(keras.activations, name)
        expected = function(rows @ layer.kernel.numpy() + layer.bias.numpy())
        assert np.allclose(layer(rows), expected, atol=1e-5), name
        assert layer.activation is function, name


def test_an_initializer_draws_what_keras_draws(train: Any) -> None:
    """The layers are not trained: what they hold afterwards is what they were given."""
    values = named_and_configured("initializers", INITIALIZERS)
    trained = train(numbered("kernel_initializer", values, trainable=False))
    for place, value in enumerate(values):
        kernel = trained.model.get_layer(f"side_{place}").kernel.numpy()
        initializer = made("initializers", value)
        assert type(trained.model.get_layer(f"side_{place}").kernel_initializer) is type(initializer)
        if isinstance(value, dict):
            assert np.array_equal(kernel, np.asarray(initializer((WIDTH, WIDTH)))), value
        else:
            assert kernel.std() == pytest.approx(np.asarray(initializer((WIDTH, WIDTH))).std(), rel=0.6), (
                value
            )


def test_fourier_s_waves_are_drawn(run: Any, data: Path) -> None:
    import keras

    body = {
        "model": {
            "kind": "sequential",
            "layers": [
                {"class_name": "Reshape", "config": {"target_shape": [WIDTH, 1]}},
                {
                    "class_name": "Conv1D",
                    "config": {
                        "filters": 3,
                        "kernel_size": 4,
                        "kernel_initializer": {"class_name": "STFT", "config": STFT},
                        "trainable": False,
                    },
                },
                {"class_name": "Flatten"},
                {"class_name": "Dense", "config": {"units": 1}},
            ],
        },
        "data": {"kind": "npz", "uri": "dataset://ingredients", "features": "x", "label": "y"},
        "compile": {"loss": "mse"},
        "fit": {"epochs": 1},
        "seed": 11,
    }
    kernel = run(body, data_file=data).model.layers[1].kernel
    assert np.array_equal(kernel.numpy(), np.asarray(keras.initializers.STFT(**STFT)((4, 1, 3))))


def test_a_regularizer_adds_to_the_loss_what_keras_computes(train: Any) -> None:
    values = named_and_configured("regularizers", REGULARIZERS)
    trained = train(numbered("kernel_regularizer", values))
    penalty = sum(
        float(made("regularizers", value)(trained.model.get_layer(f"side_{place}").kernel))
        for place, value in enumerate(values)
    )
    # The last step's was taken before its weights moved: an epoch's mean lies a little beside its end.
    last = trained.metrics["last"]
    assert last["loss"] - last["mse"] == pytest.approx(penalty, rel=0.1)
    assert penalty > 0.1


def test_a_constraint_holds_after_the_last_step(train: Any) -> None:
    values = named_and_configured("constraints", CONSTRAINTS)
    trained = train(numbered("kernel_constraint", values))
    for place, value in enumerate(values):
        layer = trained.model.get_layer(f"side_{place}")
        constraint = made("constraints", value)
        assert type(layer.kernel_constraint) is type(constraint)
        assert np.allclose(layer.kernel, constraint(layer.kernel.value), atol=1e-6), value


@pytest.mark.parametrize("name", NO_NAME)
def test_an_activation_that_no_layer_can_take_is_refused(name: str) -> None:
    (fault,) = name_faults(name, "activations")
    assert fault.detail.startswith(f"unknown activation {name!r}")
