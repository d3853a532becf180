"""Small models, trained once a session, and their exports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.artifact import Artifact
from exporter.converter import Converter
from exporter.entries import read_entries
from exporter.export import export
from exporter.samples import Samples

if TYPE_CHECKING:
    import keras

# Keras 3.15 saves its variables by np.array(tf.Variable), and TensorFlow 2.20's lacks NumPy 2's copy keyword.
KERAS_ON_NUMPY_2 = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"

EVERY_FORMAT = [
    {"format": "tflite"},
    {"format": "tflite", "quantization": "int8"},
    {"format": "onnx"},
    {"format": "keras"},
    {"format": "h5"},
    {"format": "tfjs"},
    {"format": "tfjs", "quantization": "float16"},
    {"format": "tfjs", "quantization": "uint8"},
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(KERAS_ON_NUMPY_2))


@dataclass(frozen=True)
class Trained:
    """A trained model with the rows it learnt from and rows it never saw."""

    model: keras.Model
    train: dict[str, np.ndarray]
    held_out: Samples


@dataclass(frozen=True)
class Exported:
    """Everything one export left behind."""

    trained: Trained
    artifacts: dict[str, Artifact]
    out: Path
    steps: list[tuple[str, str]]


@pytest.fixture(scope="session")
def classifier() -> Trained:
    """Sequential, no names given, exact gelu; three classes from 8 numbers."""
    import keras

    keras.utils.set_random_seed(7)
    x = np.random.default_rng(7).normal(size=(175, 8)).astype(np.float32)
    y = np.digitize(x[:, 0] + x[:, 1], [-0.7, 0.7])
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="gelu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:100], y[:100], epochs=2, verbose=0)
    return Trained(model, {"measurements": x[:100]}, Samples({"measurements": x[100:]}, y[100:]))


@pytest.fixture(scope="session")
def image_classifier() -> Trained:
    """Convolution and batch normalization with given names: is the left half the brighter?"""
    import keras

    keras.utils.set_random_seed(8)
    x = np.random.default_rng(8).uniform(size=(150, 12, 12, 1)).astype(np.float32)
    y = (x[:, :, :6].mean(axis=(1, 2, 3)) > x[:, :, 6:].mean(axis=(1, 2, 3))).astype(np.int64)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), name="image"),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, activation="sigmoid", name="bright_left"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    model.fit(x[:100], y[:100], epochs=2, verbose=0)
    return Trained(model, {"image": x[:100]}, Samples({"image": x[100:]}, y[100:]))


@pytest.fixture(scope="session")
def two_by_two() -> Trained:
    """Functional with two inputs, whose order isn't alphabetic, and two outputs: classes and a number."""
    import keras

    keras.utils.set_random_seed(9)
    random = np.random.default_rng(9)
    features = {
        "size": random.normal(size=(150, 3)).astype(np.float32),
        "age": random.normal(size=(150, 2)).astype(np.float32),
    }
    targets = {
        "species": (features["size"][:, 0] > 0).astype(np.int64) + (features["age"][:, 0] > 1),
        "weight": features["size"].sum(axis=1) * 5,
    }
    size = keras.Input((3,), name="size")
    age = keras.Input((2,), name="age")
    joined = keras.layers.Concatenate()([size, age])
    hidden = keras.layers.Add()([keras.layers.Dense(5, activation="relu")(joined), joined])
    model = keras.Model(
        [size, age],
        [
            keras.layers.Dense(3, activation="softmax", name="species")(hidden),
            keras.layers.Dense(1, name="weight")(hidden),
        ],
    )
    model.compile("adam", {"species": "sparse_categorical_crossentropy", "weight": "mse"})
    train = {name: array[:100] for name, array in features.items()}
    model.fit(train, {name: array[:100] for name, array in targets.items()}, epochs=2, verbose=0)
    held_out = Samples(
        {name: array[100:] for name, array in features.items()},
        {name: array[100:] for name, array in targets.items()},
    )
    return Trained(model, train, held_out)


@pytest.fixture(
    scope="session", params=[pytest.param("image_classifier", marks=pytest.mark.full), "two_by_two"]
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, converter: Converter
) -> Exported:
    """Two models, exported to every format."""
    trained: Trained = request.getfixturevalue(request.param)
    out = tmp_path_factory.mktemp("version")
    steps: list[tuple[str, str]] = []
    artifacts = export(
        trained.model,
        read_entries(EVERY_FORMAT),
        held_out=trained.held_out,
        training=Samples(trained.train),
        out=out,
        on_step=lambda phase, name: steps.append((phase, name)),
        converter=converter,
    )
    return Exported(trained, {artifact.name: artifact for artifact in artifacts}, out, steps)
