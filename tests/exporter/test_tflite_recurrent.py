"""Recurrent networks as TensorFlow Lite: unrolled, or one row a call."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from exporter.arrays import write_arrays
from exporter.converter import Converter
from exporter.endpoint import Endpoint
from exporter.entries import read_entries
from exporter.errors import ExportFailedError
from exporter.export import export
from exporter.formats import saved_model, tflite
from exporter.samples import Samples
from exporter.unrolling import one_row
from tests.exporter.conftest import Trained
from tests.exporter.test_tflite import CALIBRATION, converted, tensors

pytestmark = pytest.mark.filterwarnings(CALIBRATION)

LENGTH = 6
ONE_ROW = [None, "float16", "dynamic"]


def trained(build, *, length=LENGTH, free=False, features=None):
    """What `build` makes of Keras's layers, trained to tell three classes of sequences apart."""
    import keras

    keras.utils.set_random_seed(12)
    x = np.random.default_rng(12).normal(size=(300, length, 4)).astype(np.float32)
    y = np.digitize(x[:, -1, 0] + x[:, -2, 1], [-0.7, 0.7])
    x = x if features is None else features(x)
    model = build(keras.layers)
    if isinstance(model, list):
        inputs = keras.Input((None if free else x.shape[1], *x.shape[2:]), name="steps")
        classes = keras.layers.Dense(3, activation="softmax", name="class")
        model = keras.Sequential([inputs, *model, classes])
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    model.fit(x[:100], y[:100], epochs=8, verbose=0)
    return Trained(model, {"steps": x[:100]}, Samples({"steps": x[100:]}, y[100:]))


@pytest.fixture(scope="module")
def exported_lstm(tmp_path_factory, converter):
    lstm, out = trained(lambda layers: [layers.LSTM(8)]), tmp_path_factory.mktemp("unrolled")
    artifacts = export(
        lstm.model,
        read_entries([{"format": "tflite"}, {"format": "tflite", "quantization": "int8"}]),
        held_out=lstm.held_out,
        training=Samples(lstm.train),
        out=out,
        converter=converter,
    )
    return SimpleNamespace(out=out, trained=lstm, artifacts={each.name: each for each in artifacts})


@pytest.mark.parametrize("name", ["tflite", "tflite-int8"])
def test_a_recurrent_network_is_unrolled_and_keeps_its_names_and_its_free_batch(exported_lstm, name):
    artifact = exported_lstm.artifacts[name]
    assert artifact.recipe.endswith(", recurrent layers unrolled")
    assert tensors(artifact.to_json()["signature"]) == {
        "steps": ("float32", (None, LENGTH, 4)),
        "class": ("float32", (None, 3)),
    }
    assert artifact.parity.batch_sizes == (1, 7, 32)


def test_unrolled_it_answers_to_the_last_digits_and_in_8_bits_within_a_twentieth(exported_lstm):
    # 1.2e-7 and 0.03 were seen.
    assert exported_lstm.artifacts["tflite"].parity.max_abs_diff < 1e-6
    assert 0 < exported_lstm.artifacts["tflite-int8"].parity.max_abs_diff < 0.05


def test_the_trained_model_and_its_version_keep_their_loop(exported_lstm):
    assert exported_lstm.trained.model.layers[0].unroll is False
    assert b"TensorListReserve" in (exported_lstm.out / "saved_model.pb").read_bytes()


def test_sequences_of_free_length_take_one_row_a_call_and_any_length(tmp_path):
    lstm = trained(lambda layers: [layers.LSTM(8, name="reader")], free=True)
    (artifact,) = converted(lstm, tmp_path, [None]).values()
    assert artifact.stand_in.recipe == "batch of 1, as the sequence length of reader is free"
    assert artifact.parity.max_abs_diff < 1e-6
    assert tensors(artifact.loaded.signature)["steps"] == ("float32", (1, None, 4))
    assert artifact.loaded.batch_size == 1
    short = lstm.held_out.features["steps"][:1, :3]
    answer = artifact.loaded.predict({"steps": short})["class"]
    assert np.abs(answer - lstm.model.predict(short, verbose=0)).max() < 1e-6


@pytest.mark.parametrize("quantization", ["int8", "int8_io"])
def test_int8_of_sequences_that_can_not_be_unrolled_is_refused_with_the_reason(quantization):
    import keras

    model = keras.Sequential([keras.Input((300, 4), name="steps"), keras.layers.LSTM(2)])
    endpoint = Endpoint.of(model, {"steps": np.zeros((1, 300, 4), np.float32)})
    with pytest.raises(ValueError, match=f"^{quantization} takes recurrent layers unrolled") as caught:
        tflite.stand_in(endpoint, tflite.Options(quantization=quantization))
    assert "the recurrent layers take 300 steps in all, more than the 256 that are unrolled" in str(
        caught.value
    )
    assert "choose the quantization dynamic or float16" in str(caught.value)


@pytest.mark.full
def test_the_names_in_an_unrolled_file_grow_no_faster_than_its_length(tmp_path):
    sizes = {}
    for length in (10, 40):
        lstm = trained(lambda layers: [layers.LSTM(4)], length=length)
        (artifact,) = converted(lstm, tmp_path / str(length), ["int8"]).values()
        assert artifact.parity.agrees
        sizes[length] = artifact.file.stat().st_size
    # 35 and 131 kB were seen; 45 and 214 before names were cut.
    assert sizes[40] < 4 * sizes[10]


def masked(x):
    """Sequences of different lengths, padded with zeros."""
    return np.where(np.arange(LENGTH)[:, None] < 2 + np.arange(len(x))[:, None, None] % 5, x, 0)


def tokens(x):
    return np.where(masked(x)[..., 0] != 0, 1 + np.abs(x[..., 0] * 4).astype(np.int32) % 9, 0)


def cells(layers):
    return layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)])


def nested(layers):
    import keras

    inner = keras.Sequential([keras.Input((LENGTH, 4)), layers.GRU(5, return_sequences=True)])
    return [inner, layers.LSTM(4)]


BUILDS = {
    "gru": lambda layers: [layers.GRU(8)],
    "gru, reset before": lambda layers: [layers.GRU(8, reset_after=False)],
    "simple": lambda layers: [layers.SimpleRNN(8)],
    "bidirectional": lambda layers: [layers.Bidirectional(layers.LSTM(4))],
    "cells": lambda layers: [cells(layers)],
    "nested": nested,
    "stacked": lambda layers: [layers.LSTM(4, return_sequences=True), layers.LSTM(4, go_backwards=True)],
    "convolutional": lambda layers: [
        layers.Reshape((LENGTH, 4, 1)),
        layers.ConvLSTM1D(2, 3),
        layers.Flatten(),
    ],
    "normalized": lambda layers: [adapted(layers), layers.LSTM(8)],
}


def adapted(layers):
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(2, 3, size=(50, LENGTH, 4)).astype(np.float32))
    return normalization


@pytest.mark.full
@pytest.mark.parametrize("build", BUILDS)
def test_every_recurrent_layer_is_unrolled_in_every_quantization(tmp_path, build):
    artifacts = converted(trained(BUILDS[build]), tmp_path)
    for artifact in artifacts.values():
        assert artifact.stand_in.name == "unrolled"
        assert artifact.parity.explain() == ""
    # At most 5e-7 was seen.
    assert artifacts[None].parity.max_abs_diff < 2e-6
    assert tensors(artifacts["int8_io"].loaded.signature)["steps"] == ("int8", (None, LENGTH, 4))


@pytest.mark.full
@pytest.mark.parametrize("build", ["gru", "bidirectional", "cells", "nested", "convolutional"])
def test_every_recurrent_layer_is_converted_row_by_row(tmp_path, build, monkeypatch):
    monkeypatch.setattr("exporter.unrolling.STEPS", 1)
    artifacts = converted(trained(BUILDS[build]), tmp_path, ONE_ROW)
    for artifact in artifacts.values():
        assert artifact.stand_in.name == "one-row"
        assert artifact.parity.explain() == ""
    assert artifacts[None].parity.max_abs_diff < 2e-6


@pytest.mark.full
def test_a_subclassed_network_is_unrolled_too(tmp_path):
    def build(layers):
        import keras

        class Reader(keras.Model):
            def __init__(self):
                super().__init__()
                self.read = layers.LSTM(8)
                self.tell = layers.Dense(3, activation="softmax")

            def call(self, steps):
                return self.tell(self.read(steps))

        return Reader()

    artifacts = converted(trained(build), tmp_path)
    assert {artifact.stand_in.name for artifact in artifacts.values()} == {"unrolled"}
    assert all(artifact.parity.agrees for artifact in artifacts.values())


@pytest.mark.full
@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_sequences_padded_with_zeros_are_read_as_far_as_they_go(tmp_path, layer):
    padded = trained(lambda layers: [layers.Masking(), getattr(layers, layer)(5)], features=masked)
    artifacts = converted(padded, tmp_path)
    assert [artifact.parity.explain() for artifact in artifacts.values()] == [""] * len(artifacts)
    assert artifacts[None].parity.max_abs_diff < 2e-6
    # Up to 0.043 was seen.
    assert artifacts["int8"].parity.max_abs_diff < 0.1


@pytest.mark.full
def test_masked_words_are_read_unless_their_numbers_are_quantized(tmp_path):
    def build(layers):
        return [layers.Embedding(10, 4, mask_zero=True), layers.Bidirectional(layers.LSTM(5))]

    artifacts = converted(trained(build, features=tokens), tmp_path)
    agreeing = [quantization for quantization, artifact in artifacts.items() if artifact.parity.agrees]
    # This input is float32, so int8_io makes steps of the words' numbers: off by 0.7.
    assert agreeing == [None, "float16", "dynamic", "int8"]


@pytest.mark.full
def test_a_loop_of_the_models_own_is_refused_with_what_to_write_instead(tmp_path):
    def build(layers):
        import keras

        class Loop(keras.Model):
            def __init__(self):
                super().__init__()
                self.step = layers.Dense(4, activation="tanh")
                self.tell = layers.Dense(3, activation="softmax")

            def call(self, steps):
                def step(state, now):
                    following = self.step(keras.ops.concatenate([state, now], axis=-1))
                    return following, following

                begin = keras.ops.zeros_like(steps[:, 0])
                last, _ = keras.ops.scan(step, begin, keras.ops.transpose(steps, (1, 0, 2)))
                return self.tell(last)

        return Loop()

    with pytest.raises(ValueError, match="takes no loop over a free batch: write it with Keras's recurrent"):
        converted(trained(build), tmp_path, [None])


@pytest.mark.full
def test_a_loop_that_is_calibrated_crashes_the_converter_alone(tmp_path):
    """What `stand_in` refuses, asked of the converter itself: why it is refused."""
    gru = trained(BUILDS["gru"])
    endpoint = one_row(Endpoint.of(gru.model, gru.train))
    saved_model.write(endpoint, tmp_path / "1", saved_model.Options())
    request = {
        "do": "convert",
        "format": "tflite",
        "saved_model": str(tmp_path / "1"),
        "destination": str(tmp_path / "model.tflite"),
        "representative": str(write_arrays(tmp_path / "rows.npz", gru.train)),
    }
    with Converter(timeout_s=120) as converter:
        with pytest.raises(ExportFailedError, match="died of SIGSEGV"):
            converter.ask({**request, "options": {"quantization": "int8"}}, artifact="gru")
        assert converter.ask({**request, "options": {}}, artifact="gru")["recipe"]
    assert tflite.load(tmp_path / "model.tflite").batch_size == 1
