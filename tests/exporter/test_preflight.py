from __future__ import annotations

import numpy as np
import pytest

from exporter.entries import read_entries
from exporter.errors import ExportFailedError, SignatureChangedError
from exporter.export import export
from exporter.preflight import preflight, refuse_signatures
from exporter.samples import Samples
from exporter.signatures import signature_of
from tests.formats.subclassed import Subclassed

ROWS = Samples({"x": np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)})


def test_each_artifact_is_tried_on_the_untrained_model_and_refused_with_its_reason(converter) -> None:
    model = Subclassed(4, 3)
    model(ROWS.features["x"][:1])
    entries = read_entries(
        [{"format": "h5"}, {"format": "onnx"}, {"format": "tflite", "quantization": "int8"}]
    )
    told = preflight(model, entries, held_out=ROWS, training=ROWS, converter=converter)
    assert {name: reason for name, reason in told.items() if reason is None} == {
        "saved_model": None,
        "onnx": None,
        "tflite-int8": None,
    }
    assert "HDF5 holds no subclassed model" in (told["h5"] or "")


def test_what_is_not_installed_is_said_and_not_tried(
    tmp_path, monkeypatch: pytest.MonkeyPatch, classifier, converter
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = Samples(classifier.train)
    entries = read_entries([{"format": "tfjs"}])
    told = preflight(classifier.model, entries, held_out=rows, training=rows, converter=converter)
    assert told == {"saved_model": None, "tfjs": "node (install Node.js 18 or newer)"}


def test_a_saved_model_that_can_not_be_made_is_the_reason_of_all() -> None:
    import keras

    x = keras.Input((6,))
    twice = {side: {"answer": keras.layers.Dense(1)(x)} for side in ("left", "right")}
    entries = read_entries([{"format": "onnx"}])
    told = preflight(keras.Model(x, twice), entries, held_out=ROWS, training=ROWS)
    assert told["saved_model"] == told["onnx"]
    assert "two outputs share a name: answer, answer" in (told["onnx"] or "")


def test_signatures_that_callers_know_are_compared_before_training(classifier, tmp_path, converter) -> None:
    rows = Samples(classifier.train)
    entries = read_entries([{"format": "saved_model", "signatures": ["classify"]}])
    out = tmp_path / "1"
    export(classifier.model, entries, held_out=rows, training=rows, out=out, converter=converter)
    present = {name: signature.to_json() for name, signature in signature_of(tmp_path / "1").items()}
    assert present.keys() == {"serving_default", "classify"}
    row = {name: array[:1] for name, array in classifier.train.items()}
    refuse_signatures(classifier.model, entries, row=row, present=present)  # as it is written, so it is told
    with pytest.raises(SignatureChangedError, match="signature 'classify' is gone"):
        refuse_signatures(classifier.model, [], row=row, present=present)
    with pytest.raises(SignatureChangedError, match="input 'measurements' was float32"):
        refuse_signatures(classifier.model, entries, row={"numbers": row["measurements"]}, present=present)


def test_a_further_signature_that_is_not_for_the_model_is_refused_before_training(classifier) -> None:
    entries = read_entries([{"format": "saved_model", "signatures": ["image_bytes"]}])
    with pytest.raises(ExportFailedError, match="image_bytes"):
        refuse_signatures(classifier.model, entries, row={"x": classifier.train["measurements"][:1]})
