from __future__ import annotations

import numpy as np
import pytest

from exporter.entries import read_entries
from exporter.export import Samples
from exporter.preflight import preflight
from tests.formats.subclassed import Subclassed

ROWS = Samples({"x": np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)})


def test_each_artifact_is_tried_on_the_untrained_model_and_refused_with_its_reason() -> None:
    model = Subclassed(4, 3)
    model(ROWS.features["x"][:1])
    entries = read_entries(
        [{"format": "h5"}, {"format": "onnx"}, {"format": "tflite", "quantization": "int8"}]
    )
    told = preflight(model, entries, held_out=ROWS, training=ROWS)
    assert {name: reason for name, reason in told.items() if reason is None} == {
        "saved_model": None,
        "onnx": None,
        "tflite-int8": None,
    }
    assert "HDF5 holds no subclassed model" in (told["h5"] or "")


def test_what_is_not_installed_is_said_and_not_tried(
    tmp_path, monkeypatch: pytest.MonkeyPatch, classifier
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = Samples(classifier.train)
    told = preflight(classifier.model, read_entries([{"format": "tfjs"}]), held_out=rows, training=rows)
    assert told == {"saved_model": None, "tfjs": "node (install Node.js 18 or newer)"}


def test_a_saved_model_that_can_not_be_made_is_the_reason_of_all() -> None:
    import keras

    x = keras.Input((6,))
    twice = {side: {"answer": keras.layers.Dense(1)(x)} for side in ("left", "right")}
    entries = read_entries([{"format": "onnx"}])
    told = preflight(keras.Model(x, twice), entries, held_out=ROWS, training=ROWS)
    assert told["saved_model"] == told["onnx"]
    assert "two outputs share a name: answer, answer" in (told["onnx"] or "")
