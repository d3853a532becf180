"""Architectures that people export, each trained on handwritten digits or on a table until it answers well.

The digits are scikit-learn's, 1,797 images of 8 x 8 pixels of 0 to 16: as numbers, as images, as sequences of
eight rows, and as sequences of sixteen tokens, each the mean of four pixels.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.samples import Samples

if TYPE_CHECKING:
    import keras

    from exporter.preparation import Preparation

TRAINING_ROWS = 1400


@dataclass(frozen=True)
class Specimen:
    """A trained model, with the rows that prove and calibrate its exports."""

    model: keras.Model
    held_out: Samples
    training: Samples
    preparation: Preparation | None = None


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images (1797, 8, 8), float32 from 0 to 1, and their digits (1797,)."""
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) / 16).astype(np.float32), numbers.astype(np.int64)


def _tokens(images: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels as numbers from 0 to 16, int32 (rows, 16)."""
    means = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    return np.round(means * 16).astype(np.int32)


def _trained(
    model: keras.Model, features: np.ndarray | Mapping[str, np.ndarray], *, epochs: int, name: str = "pixels"
) -> Specimen:
    import keras

    numbers = digits()[1]
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(features[:TRAINING_ROWS], numbers[:TRAINING_ROWS], epochs=epochs, batch_size=64, verbose=0)
    return Specimen(
        model,
        Samples({name: features[TRAINING_ROWS:]}, numbers[TRAINING_ROWS:]),
        Samples({name: features[:TRAINING_ROWS]}),
    )


def sequential_mlp(_: Path) -> Specimen:
    """Sequential, dense."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax")]
    )
    return _trained(model, digits()[0].reshape(-1, 64), epochs=6)


def functional_mlp(_: Path) -> Specimen:
    """Functional, dense, with dropout."""
    import keras

    pixels = keras.Input((64,), name="pixels")
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(32, activation="relu")(pixels))
    model = keras.Model(pixels, keras.layers.Dense(10, activation="softmax", name="digit")(hidden))
    return _trained(model, digits()[0].reshape(-1, 64), epochs=6)


def subclassed_mlp(_: Path) -> Specimen:
    """Subclassed, dense."""
    from tests.formats.subclassed import Subclassed

    return _trained(Subclassed(32, 10), digits()[0].reshape(-1, 64), epochs=6)


def cnn(_: Path) -> Specimen:
    """Convolutions, batch normalization, spatial dropout."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SpatialDropout2D(0.1),
            layers.MaxPooling2D(),
            layers.Conv2D(24, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, digits()[0][..., np.newaxis], epochs=6, name="image")


def embedding_lstm(_: Path) -> Specimen:
    """Embedding and LSTM over sixteen tokens."""
    import keras

    return _over_tokens(keras.layers.LSTM(32))


def embedding_gru(_: Path) -> Specimen:
    """Embedding and GRU over sixteen tokens."""
    import keras

    return _over_tokens(keras.layers.GRU(32))


def _over_tokens(recurrent: keras.layers.Layer) -> Specimen:
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16,), dtype="int32", name="tokens"),
            layers.Embedding(17, 12),
            recurrent,
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, _tokens(digits()[0]), epochs=10, name="tokens")


def bidirectional_lstm(_: Path) -> Specimen:
    """Bidirectional LSTM over eight rows of pixels."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8), name="rows"),
            layers.Bidirectional(layers.LSTM(16)),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, digits()[0], epochs=10, name="rows")


def transformer(_: Path) -> Specimen:
    """A transformer block with exact gelu over eight rows of pixels."""
    import keras

    layers = keras.layers
    rows = keras.Input((8, 8), name="rows")
    x = layers.Dense(16)(rows)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    answer = layers.Dense(10, activation="softmax", name="digit")(layers.Flatten()(x))
    return _trained(keras.Model(rows, answer), digits()[0], epochs=10, name="rows")


def two_by_two(_: Path) -> Specimen:
    """Two inputs, two outputs, a skip connection."""
    import keras

    layers = keras.layers
    images, numbers = digits()
    features = {"upper": images[:, :4].reshape(-1, 32), "lower": images[:, 4:].reshape(-1, 32)}
    targets = {"digit": numbers, "ink": images.mean(axis=(1, 2))}
    upper, lower = keras.Input((32,), name="upper"), keras.Input((32,), name="lower")
    joined = layers.Concatenate()([upper, lower])
    hidden = layers.Add()([layers.Dense(64, activation="relu")(joined), joined])
    model = keras.Model(
        {"upper": upper, "lower": lower},
        {
            "digit": layers.Dense(10, activation="softmax", name="digit")(hidden),
            "ink": layers.Dense(1, name="ink")(hidden),
        },
    )
    model.compile("adam", {"digit": "sparse_categorical_crossentropy", "ink": "mse"})

    def part(arrays: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
        return {name: array[rows] for name, array in arrays.items()}

    training, held_out = slice(TRAINING_ROWS), slice(TRAINING_ROWS, None)
    model.fit(part(features, training), part(targets, training), epochs=10, verbose=0)
    return Specimen(
        model,
        Samples(part(features, held_out), part(targets, held_out)),
        Samples(part(features, training)),
    )


def prepared(folder: Path) -> Specimen:
    """Numbers, categories and text, prepared within what is served."""
    from trainer.fit import fit
    from trainer.spec import TrainSpec

    spec = TrainSpec.model_validate(
        {
            "model": {
                "kind": "sequential",
                "layers": [
                    {"class_name": "Dense", "config": {"units": 16, "activation": "relu"}},
                    {"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}},
                ],
            },
            "data": {
                "kind": "csv",
                "uri": "file:///flats.csv",
                "features": ["size", "city", "note"],
                "label": "dear",
                "columns": {
                    "size": {"kind": "number", "missing": "mean"},
                    "city": {"kind": "category"},
                    "note": {"kind": "text", "max_tokens": 50},
                },
                "split": {"by": "random", "fractions": [0.6, 0.1, 0.3]},
            },
            "compile": {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"},
            "fit": {"epochs": 10},
            "seed": 3,
        }
    )
    trained = fit(
        spec, data_file=_flats(folder / "flats.csv"), workdir=folder / "work", seed=3, observer=_Quiet()
    )
    rows = trained.rows
    return Specimen(
        trained.model,
        Samples(rows.held_out.features, next(iter(rows.held_out.targets.values())), rows.requests),
        Samples(rows.representative, requests=rows.representative_requests),
        rows.preprocessing,
    )


class _Quiet:
    """An observer of a training that nobody watches."""

    def phase(self, name: str) -> None:
        pass

    note = progress = epoch = pipeline = phase

    def interruption(self) -> None:
        return None


def _flats(file: Path) -> Path:
    """Write 900 flats: what is large, central or called bright is dear."""
    chance = random.Random(5)
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["size", "city", "note", "dear"])
        for _ in range(900):
            size, city = chance.randint(20, 150), chance.choice(["Rome", "Łódź", "Oslo"])
            note = " ".join(chance.sample(["bright", "quiet", "old", "noisy", "garden"], 2))
            worth = size / 50 + (city == "Oslo") + ("bright" in note)
            table.writerow(["" if chance.random() < 0.05 else size, city, note, int(worth > 2.5)])
    return file


MODELS: Mapping[str, Callable[[Path], Specimen]] = {
    each.__name__: each
    for each in (
        sequential_mlp,
        functional_mlp,
        subclassed_mlp,
        cnn,
        embedding_lstm,
        embedding_gru,
        bidirectional_lstm,
        transformer,
        two_by_two,
        prepared,
    )
}
