"""Every layer that Keras has: in a model, trained for an epoch of two steps, checkpointed and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from trainer.catalog import catalog
from trainer.fit import fit
from trainer.spec import TrainSpec

VECTOR, SERIES, IMAGE, VOLUME, SIGNAL, WORDS = (8,), (6, 4), (8, 8, 3), (4, 4, 4, 2), (512,), (6,)
SHAPES = {
    "vector": VECTOR,
    "series": SERIES,
    "image": IMAGE,
    "volume": VOLUME,
    "signal": SIGNAL,
    "channel": (*SIGNAL, 1),
    "words": WORDS,
    "films1": (3, 8, 2),
    "films2": (3, 6, 6, 2),
    "films3": (2, 4, 4, 4, 1),
}


def layer(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


DENSE = layer("Dense", units=3)
UNIT = [0.0, 1.0]
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "vector": {
        "Activation": {"activation": "relu"},
        "ActivityRegularization": {"l2": 0.01},
        "AlphaDropout": {"rate": 0.2},
        "BatchNormalization": {},
        "Dense": {"units": 3},
        "Dropout": {"rate": 0.2},
        "ELU": {},
        "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3},
        "GaussianDropout": {"rate": 0.2},
        "GaussianNoise": {"stddev": 0.1},
        "Identity": {},
        "LayerNormalization": {},
        "LeakyReLU": {},
        "Normalization": {"mean": 0.5, "variance": 1.0},
        "PReLU": {},
        "RMSNormalization": {},
        "ReLU": {},
        "RepeatVector": {"n": 3},
        "Reshape": {"target_shape": [2, 4]},
        "Softmax": {},
        "UnitNormalization": {},
        "Flatten": {},
        "GroupNormalization": {"groups": 2},
        "Rescaling": {"scale": 0.5},
        "SpectralNormalization": {"layer": DENSE},
        "Discretization": {"bin_boundaries": [0.3, 0.6], "output_mode": "one_hot"},
    },
    "series": {
        "AdaptiveAveragePooling1D": {"output_size": 3},
        "AdaptiveMaxPooling1D": {"output_size": 3},
        "AveragePooling1D": {"pool_size": 2},
        "MaxPooling1D": {},
        "GlobalAveragePooling1D": {},
        "GlobalMaxPooling1D": {},
        "Bidirectional": {"layer": layer("LSTM", units=3)},
        "Conv1D": {"filters": 2, "kernel_size": 2},
        "Conv1DTranspose": {"filters": 2, "kernel_size": 2},
        "Cropping1D": {},
        "DepthwiseConv1D": {"kernel_size": 2},
        "GRU": {"units": 3},
        "LSTM": {"units": 3},
        "SimpleRNN": {"units": 3},
        "Permute": {"dims": [2, 1]},
        "RNN": {"cell": layer("GRUCell", units=3)},
        "SeparableConv1D": {"filters": 2, "kernel_size": 2},
        "SpatialDropout1D": {"rate": 0.2},
        "TimeDistributed": {"layer": DENSE},
        "UpSampling1D": {},
        "ZeroPadding1D": {},
    },
    "image": {
        "AdaptiveAveragePooling2D": {"output_size": 3},
        "AdaptiveMaxPooling2D": {"output_size": 3},
        "AveragePooling2D": {"pool_size": 2},
        "MaxPooling2D": {},
        "GlobalAveragePooling2D": {},
        "GlobalMaxPooling2D": {},
        "CenterCrop": {"height": 4, "width": 4},
        "Conv2D": {"filters": 2, "kernel_size": 3},
        "Conv2DTranspose": {"filters": 2, "kernel_size": 3},
        "Cropping2D": {},
        "DepthwiseConv2D": {"kernel_size": 3},
        "SeparableConv2D": {"filters": 2, "kernel_size": 3},
        "SpatialDropout2D": {"rate": 0.2},
        "UpSampling2D": {},
        "ZeroPadding2D": {},
        "Resizing": {"height": 4, "width": 4},
        "AutoContrast": {"value_range": UNIT},
        "AugMix": {"value_range": UNIT},
        "RandAugment": {"value_range": UNIT},
        "ContrastLimitedAdaptiveHistogramEqualization": {"value_range": UNIT},
        "Equalization": {"value_range": UNIT},
        "CutMix": {},
        "MixUp": {},
        "Solarization": {"value_range": UNIT},
        "Pipeline": {"layers": [layer("RandomFlip"), layer("RandomContrast", factor=0.2, value_range=UNIT)]},
        "RandomBrightness": {"factor": 0.2, "value_range": UNIT},
        "RandomColorDegeneration": {"factor": 0.2, "value_range": UNIT},
        "RandomColorJitter": {"value_range": UNIT, "brightness_factor": 0.1},
        "RandomContrast": {"factor": 0.2, "value_range": UNIT},
        "RandomElasticTransform": {"value_range": UNIT},
        "RandomErasing": {"value_range": UNIT},
        "RandomFlip": {},
        "RandomGaussianBlur": {"value_range": UNIT},
        "RandomGrayscale": {},
        "RandomHue": {"factor": 0.2, "value_range": UNIT},
        "RandomInvert": {"value_range": UNIT},
        "RandomPerspective": {},
        "RandomPosterization": {"factor": 4, "value_range": UNIT},
        "RandomRotation": {"factor": 0.1},
        "RandomSaturation": {"factor": 0.2, "value_range": UNIT},
        "RandomSharpness": {"factor": 0.2, "value_range": UNIT},
        "RandomShear": {},
        "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
        "RandomZoom": {"height_factor": 0.1},
    },
    "volume": {
        "AdaptiveAveragePooling3D": {"output_size": 2},
        "AdaptiveMaxPooling3D": {"output_size": 2},
        "AveragePooling3D": {"pool_size": 2},
        "MaxPooling3D": {},
        "GlobalAveragePooling3D": {},
        "GlobalMaxPooling3D": {},
        "Conv3D": {"filters": 2, "kernel_size": 2},
        "Conv3DTranspose": {"filters": 2, "kernel_size": 2},
        "Cropping3D": {},
        "SpatialDropout3D": {"rate": 0.2},
        "UpSampling3D": {},
        "ZeroPadding3D": {},
    },
    "signal": {
        "MelSpectrogram": {
            "fft_length": 64,
            "sequence_stride": 32,
            "sampling_rate": 1000,
            "num_mel_bins": 8,
            "max_freq": 500,
        },
    },
    "channel": {
        "STFTSpectrogram": {"frame_length": 64, "frame_step": 32, "fft_length": 64},
    },
    "words": {
        "Embedding": {"input_dim": 10, "output_dim": 3},
        "ReversibleEmbedding": {"input_dim": 10, "output_dim": 3},
        "CategoryEncoding": {"num_tokens": 10},
        "Hashing": {"num_bins": 4, "output_mode": "multi_hot"},
        "IntegerLookup": {"vocabulary": [1, 2, 3], "output_mode": "multi_hot"},
    },
    "films1": {"ConvLSTM1D": {"filters": 2, "kernel_size": 2}},
    "films2": {"ConvLSTM2D": {"filters": 2, "kernel_size": 2}},
    "films3": {"ConvLSTM3D": {"filters": 2, "kernel_size": 2}},
}
# Within another layer or with several inputs: graphs, written by Keras itself.
GRAPHS = (
    "Add",
    "AdditiveAttention",
    "Attention",
    "Average",
    "Concatenate",
    "Dot",
    "GRUCell",
    "GroupQueryAttention",
    "InputLayer",
    "LSTMCell",
    "Masking",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "SimpleRNNCell",
    "StackedRNNCells",
    "Subtract",
)
LEFT_OUT = {
    "HashedCrossing": "crosses columns of whole numbers or words: preprocessing, before the model",
    "MaxNumBoundingBoxes": "works on bounding boxes beside the images, and a data set has none",
    "RandomCrop": "crops in training alone (Keras 3.15): what follows meets another shape in validation",
    "StringLookup": "takes words, and a column holds numbers",
    "TextVectorization": "takes texts, and a column holds numbers",
}


def classes() -> set[str]:
    """One name of each class: Convolution2D is another one for Conv2D."""
    import keras

    names: dict[type, list[str]] = {}
    for name in catalog().sections["layers"]:
        names.setdefault(getattr(keras.layers, name), []).append(name)
    return {cls.__name__ if cls.__name__ in known else known[0] for cls, known in names.items()}


def test_nine_tenths_of_all_layers_are_tried_and_the_rest_has_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried = {name for cases in CASES.values() for name in cases} | set(GRAPHS)
    known = classes()
    assert not tried & LEFT_OUT.keys()
    assert tried | LEFT_OUT.keys() == known
    assert len(tried) >= 0.9 * len(known)
    with capsys.disabled():
        print(f"\n{len(tried)} of {len(known)} layers are tried")  # noqa: T201 - the figure is the point


def graph(name: str) -> tuple[dict[str, Any], str]:
    """A model with this layer, as `to_json()` writes it, and the shape of its input."""
    import keras

    series = keras.Input(SERIES, name="x")
    if name in {"Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"}:
        options = {
            "MultiHeadAttention": {"num_heads": 2, "key_dim": 2},
            "GroupQueryAttention": {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
        }.get(name)
        made = getattr(keras.layers, name)(**(options or {}))
        given = made(series, series) if options else made([series, series])
    elif name == "StackedRNNCells":
        given = keras.layers.RNN(
            keras.layers.StackedRNNCells([keras.layers.GRUCell(3), keras.layers.LSTMCell(2)])
        )(series)
    elif name.endswith("Cell"):
        given = keras.layers.RNN(getattr(keras.layers, name)(3))(series)
    elif name == "Masking":
        given = keras.layers.LSTM(3)(keras.layers.Masking()(series))
    elif name == "InputLayer":
        given = series
    else:
        both = [keras.layers.Dense(4)(series), keras.layers.Dense(4)(series)]
        given = getattr(keras.layers, name)(**({"axes": -1} if name == "Dot" else {}))(both)
    answer = keras.layers.Dense(1)(keras.layers.Flatten()(given))
    return json.loads(keras.Model(series, answer).to_json()), "series"


def model_of(name: str) -> tuple[dict[str, Any], str]:
    if name in GRAPHS:
        config, kind = graph(name)
        return {"kind": "keras", "config": config}, kind
    kind, config = next((kind, cases[name]) for kind, cases in CASES.items() if name in cases)
    chain = [layer(name, **config), layer("Flatten"), layer("Dense", units=1)]
    return {"kind": "sequential", "layers": chain}, kind


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    arrays = {name: rng.uniform(0.1, 0.9, (8, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    arrays["words"] = rng.integers(0, 10, (8, *WORDS))
    path = tmp_path_factory.mktemp("layers") / "layers.npz"
    np.savez(path, y=rng.uniform(size=8).astype(np.float32), **arrays)
    return path


@pytest.mark.full
@pytest.mark.parametrize("name", sorted({name for cases in CASES.values() for name in cases} | set(GRAPHS)))
def test_a_model_with_it_is_trained_and_resumed_to_the_bit(
    name: str, run, killed, data: Path, recorder, tmp_path: Path
) -> None:
    model, kind = model_of(name)
    body = {
        "model": model,
        "data": {
            "kind": "npz",
            "uri": "dataset://layers",
            "features": kind,
            "label": "y",
            "pipeline": {"batch_size": 4},
        },
        "compile": {"optimizer": "adam", "loss": "mse"},
        "fit": {"epochs": 2},
        "checkpoint": {"every_steps": 1},
        "seed": 11,
    }
    spec = TrainSpec.model_validate(body)
    whole = fit(spec, data_file=data, workdir=tmp_path / "whole", seed=11, observer=recorder())
    killed(body, polls=3, data_file=data)
    trained = run(body, data_file=data)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)
