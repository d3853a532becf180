"""What is served takes columns as they are, and answers as Keras does on rows that are prepared."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from exporter import examples
from exporter.entries import ExportEntry
from exporter.export import export
from exporter.samples import Samples
from exporter.signatures import signature_of
from serving import warmup
from tests.trainer.test_loading import body_of, people

__all__ = ["people"]
ENTRIES = [
    TypeAdapter(ExportEntry).validate_python(entry)
    for entry in (
        {"format": "saved_model", "signatures": ["classify"]},
        {"format": "tflite"},
        {"format": "onnx"},
        {"format": "tfjs"},
    )
]


@pytest.fixture(scope="module")
def trained(people, recorder, tmp_path_factory):
    from trainer.fit import fit
    from trainer.spec import TrainSpec

    spec = TrainSpec.model_validate(body_of())
    return fit(spec, data_file=people, workdir=tmp_path_factory.mktemp("work"), seed=3, observer=recorder())


@pytest.fixture(scope="module")
def version(trained, tmp_path_factory, converter):
    folder = tmp_path_factory.mktemp("served") / "1"
    artifacts = export(
        trained.model,
        ENTRIES,
        held_out=Samples(
            trained.rows.held_out.features,
            next(iter(trained.rows.held_out.targets.values())),
            trained.rows.requests,
        ),
        training=Samples(trained.rows.representative, requests=trained.rows.representative_requests),
        out=folder,
        preparation=trained.rows.preprocessing,
        class_names=trained.fitted.classes["species"],
        converter=converter,
    )
    return folder, {artifact.name: artifact for artifact in artifacts}


def asked(folder, columns):
    loaded = tf.saved_model.load(str(folder))
    tensors = {name: tf.constant(values) for name, values in columns.items()}
    return loaded.signatures["serving_default"](**tensors)["output_0"].numpy()


def test_all_formats_agree_and_the_saved_model_has_three_signatures(version):
    folder, artifacts = version
    assert {"saved_model", "tflite", "onnx", "tfjs"} <= artifacts.keys()
    signatures = signature_of(folder)
    assert sorted(signatures) == ["classify", "core", "serving_default"]
    inputs = {each.name: (each.dtype, each.shape) for each in signatures["serving_default"].inputs}
    assert inputs == {
        "age": ("float32", (None,)),
        "born": ("string", (None,)),
        "city": ("string", (None,)),
        "note": ("string", (None,)),
        "plain": ("float32", (None,)),
    }
    (core,) = signatures["core"].inputs
    assert core.dtype == "float32"
    assert artifacts["tflite"].parity.agrees
    assert artifacts["onnx"].parity.agrees
    assert artifacts["tfjs"].parity.agrees


def test_a_format_made_of_the_core_holds_no_table_of_the_columns(version):
    folder, artifacts = version
    tfjs = folder / artifacts["tfjs"].path
    assert sorted(file.name for file in tfjs.iterdir()) == ["group1-shard1of1.bin", "model.json"]
    model = json.loads((tfjs / "model.json").read_text())
    (core,) = signature_of(folder)["core"].inputs
    assert set(model["signature"]["inputs"]) == {core.name}
    assert "modelInitializer" not in model


def test_the_training_frame_gets_keras_s_own_answers(trained, version):
    expected = trained.model.predict(next(iter(trained.rows.held_out.features.values())), verbose=0)
    requests = {name: values[: len(expected)] for name, values in trained.rows.requests.items()}
    assert np.abs(asked(version[0], requests) - expected).max() < 1e-6


def test_rows_never_seen_are_answered_as_keras_does_on_prepared_ones(trained, version):
    rows = {
        "age": np.array([math.nan, 130.0, -1.0], np.float32),
        "city": np.array(["Ünknown", "", "東京"], object),
        "note": np.array(["", "łoś łoś łoś", "a dog in spring"], object),
        "born": np.array(["2031-12-31", "1950-01-01", "1999-02-28"], object),
        "plain": np.array([0.0, 5.5, -5.5], np.float32),
    }
    prepared = next(iter(trained.rows.preprocessing.prepare(rows).values()))
    expected = trained.model.predict(prepared, verbose=0)
    assert np.isfinite(expected).all()
    assert np.abs(asked(version[0], rows) - expected).max() < 1e-6


def test_examples_of_columns_are_classified_and_what_they_lack_is_missing(trained, version):
    rows = {
        "age": np.array([math.nan, 40.0], np.float32),
        "city": np.array(["", "Rome"], object),
        "note": np.array(["", "a dog"], object),
        "born": np.array(["1950-01-01", "1999-02-28"], object),
        "plain": np.array([0.0, 5.5], np.float32),
    }
    sent = examples.serialize(rows, gaps=True)
    assert "age" not in tf.train.Example.FromString(sent[0]).features.feature
    loaded = tf.saved_model.load(str(version[0]))
    answer = loaded.signatures["classify"](inputs=tf.constant(sent))
    expected = loaded.signatures["serving_default"](**{n: tf.constant(each) for n, each in rows.items()})
    assert np.isfinite(answer["scores"]).all()
    np.testing.assert_allclose(answer["scores"], expected["output_0"], atol=1e-6)
    assert answer["classes"].numpy().tolist() == [[b"cat", b"dog", "łoś".encode()]] * 2


def test_what_was_fitted_is_a_document(trained):
    again = json.loads(json.dumps(trained.fitted.to_json()))
    assert again["classes"] == {"species": ["cat", "dog", "łoś"]}
    assert again["columns"]["city"]["vocabulary"] == ["Oslo", "Rome", "東京"]


def test_it_is_warmed_by_all_signatures_columns_among_them(trained, version):
    folder, _ = version
    requests = [record.predict_log.request for record in warmup.records(folder)]
    assert [each.model_spec.signature_name for each in requests] == [
        name for name in ("serving_default", "core", "classify") for _ in (1, 32)
    ]
    assert set(requests[0].inputs) == set(trained.rows.requests)
