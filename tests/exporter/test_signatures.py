from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exporter.errors import SignatureChangedError
from exporter.export import export
from exporter.samples import Samples
from exporter.signatures import Signature, TensorInfo, changes, signature_of

SIGNATURE = Signature(
    inputs=(TensorInfo("age", "float32", (None, 1)), TensorInfo("city", "string", (None, 1))),
    outputs=(TensorInfo("output_0", "float32", (None, 3)),),
)


def as_in_a_manifest(**signatures: Signature):
    return json.loads(json.dumps({name: each.to_json() for name, each in signatures.items()}))


def test_the_same_signature_and_a_further_one_are_no_change() -> None:
    present = as_in_a_manifest(serving_default=SIGNATURE)
    assert list(changes(present, {"serving_default": SIGNATURE, "core": SIGNATURE})) == []


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({}, "signature 'serving_default' is gone"),
        (
            {"inputs": SIGNATURE.inputs[:1]},
            "serving_default input 'city' was string (*, 1), is not there",
        ),
        (
            {"inputs": (*SIGNATURE.inputs, TensorInfo("size", "float32", (None,)))},
            "serving_default input 'size' was not there, is float32 (*)",
        ),
        (
            {"outputs": (TensorInfo("output_0", "float32", (None, 4)),)},
            "serving_default output 'output_0' was float32 (*, 3), is float32 (*, 4)",
        ),
        (
            {"outputs": (TensorInfo("output_0", "int8", None),)},
            "serving_default output 'output_0' was float32 (*, 3), is int8 of any shape",
        ),
    ],
)
def test_every_change_is_told(now, told: str) -> None:
    signatures = {"serving_default": replace(SIGNATURE, **now)} if now else {}
    assert list(changes(as_in_a_manifest(serving_default=SIGNATURE), signatures)) == [told]


def test_a_model_of_another_signature_is_refused_before_anything_is_converted(
    classifier, tmp_path, converter
) -> None:
    rows = Samples(classifier.train)
    export(classifier.model, [], held_out=rows, training=rows, out=tmp_path / "1", converter=converter)
    present = as_in_a_manifest(**signature_of(tmp_path / "1"))
    renamed = Samples({"numbers": classifier.train["measurements"]})
    steps = []
    with pytest.raises(SignatureChangedError, match="input 'measurements' was float32") as caught:
        export(
            classifier.model,
            [],
            held_out=renamed,
            training=renamed,
            out=tmp_path / "2",
            present=present,
            on_step=lambda *step: steps.append(step),
        )
    assert caught.value.code == "signature_changed"
    assert steps == [("exporting", "saved_model")]
