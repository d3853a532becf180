from __future__ import annotations

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from exporter.entries import ExportEntry, read_entries, with_saved_model
from exporter.errors import EntriesError
from exporter.format import Tolerance, formats


def names(*entries):
    return [entry.name for entry in read_entries(entries)]


def test_an_entry_is_named_by_its_format_and_variant():
    assert names({"format": "saved_model"}, {"format": "tflite"}, {"format": "onnx", "opset": 13}) == [
        "saved_model",
        "tflite",
        "onnx",
    ]
    assert names({"format": "tflite", "quantization": "int8"}) == ["tflite-int8"]


def test_a_name_of_its_own_decides_where_the_artifact_lies():
    (entry,) = read_entries([{"format": "tflite", "quantization": "int8", "name": "phone"}])
    assert (entry.name, entry.path) == ("phone", "assets.extra/phone.tflite")


def test_an_unknown_format_is_refused_with_the_valid_ones():
    with pytest.raises(ValidationError, match=r"'tflit'.*'onnx', 'saved_model', 'tfjs', 'tflite'"):
        read_entries([{"format": "tflit"}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"format": "onnx", "quantization": "int8"}, "quantization\n.*Extra inputs are not permitted"),
        ({"format": "onnx", "opset": 19}, "less than or equal to 18"),
        (
            {"format": "tflite", "quantization": "int4"},
            "Input should be 'float16', 'dynamic', 'int8' or 'int8_io'",
        ),
        (
            {"format": "saved_model", "signatures": ["clasify"]},
            "Input should be 'classify', 'regress' or 'image_bytes'",
        ),
        ({"format": "saved_model", "signatures": ["regress", "regress"]}, "name each signature once"),
        ({"format": "tflite", "tolerance": 0}, "greater than 0"),
        ({"format": "tflite", "tolerance": float("nan")}, "finite number"),
        ({"format": "tflite", "name": "../../up"}, "should match pattern"),
        ({"format": "tflite", "name": ""}, "should match pattern"),
        ({"quantization": "int8"}, "Unable to extract tag using discriminator 'format'"),
    ],
)
def test_a_wrong_entry_is_refused(entry, message):
    with pytest.raises(ValidationError, match=message):
        read_entries([entry])


def test_a_spec_that_holds_entries_survives_json():
    class Spec(BaseModel):
        export: tuple[ExportEntry, ...]

    spec = Spec.model_validate({"export": [{"format": "tflite", "quantization": "int8"}, {"format": "onnx"}]})
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


def test_the_schema_offers_each_format_with_its_options():
    schema = TypeAdapter(ExportEntry).json_schema()
    assert sorted(schema["discriminator"]["mapping"]) == list(formats())
    assert "opset" in schema["$defs"]["OnnxExportEntry"]["properties"]
    assert "opset" not in schema["$defs"]["TfliteExportEntry"]["properties"]


def test_the_saved_model_is_put_first_whether_asked_for_or_not():
    onnx, saved_model = read_entries([{"format": "onnx"}, {"format": "saved_model", "tolerance": 1e-4}])
    assert with_saved_model([onnx, saved_model]) == (saved_model, onnx)
    assert [entry.format for entry in with_saved_model([onnx])] == ["saved_model", "onnx"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"format": "tflite"}, {"format": "tflite"}], "2 exports are named 'tflite'"),
        ([{"format": "onnx", "name": "weights"}], "'weights' is taken"),
        ([{"format": "onnx", "name": "saved_model"}], "2 exports are named 'saved_model'"),
        ([{"format": "saved_model"}, {"format": "saved_model", "name": "again"}], "listed twice"),
        ([{"format": "saved_model", "optional": True}], "can't be optional"),
    ],
)
def test_entries_that_contradict_each_other_are_refused(entries, message):
    with pytest.raises(EntriesError, match=message):
        with_saved_model(read_entries(entries))


def test_a_tolerance_of_its_own_replaces_the_formats():
    plain, own = read_entries(
        [
            {"format": "tflite", "quantization": "int8"},
            {"format": "tflite", "quantization": "int8", "tolerance": 0.5},
        ]
    )
    assert plain.allowed == Tolerance(difference=0.1, scale="range", metric_delta=0.02)
    assert own.allowed == Tolerance(difference=0.5)
