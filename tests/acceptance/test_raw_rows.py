"""Rows as people have them, asked of a served model with preprocessing: over gRPC, REST and the API."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from tensorflow.core.example.example_pb2 import Example

from fitserve import Client, InvalidInputError, Predictor
from tests.acceptance.stack import RunningStack
from tests.docs.blocks import ROOT, blocks_of
from trainer.fitted import Fitted

CITIES = ["Rome", "Łódź", "Oslo"]
TRAINED: list[dict[str, Any]] = [
    {"age": None if n % 7 == 0 else 20.0 + n, "city": CITIES[n % 3], "rooms": n % 4, "y": n % 2}
    for n in range(40)
]
ROWS: list[dict[str, Any]] = [
    {"age": 31, "city": "Rome", "rooms": 2},
    {"age": None, "city": "Łódź", "rooms": 1},
    {"city": None, "rooms": 0},
    {"age": 25.5, "city": "Paris", "rooms": 3},
]
SPEC: dict[str, Any] = {
    "name": "flats",
    "model": {
        "kind": "sequential",
        "layers": [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}],
    },
    "data": {
        "kind": "inline",
        "rows": TRAINED,
        "features": ["age", "city", "rooms"],
        "label": "y",
        "columns": {
            "age": {"kind": "number", "missing": "mean"},
            "city": {"kind": "category"},
            "rooms": {"kind": "number", "standardize": False},
        },
    },
    "compile": {"loss": "binary_crossentropy"},
    "seed": 1,
}


@pytest.fixture(scope="module")
def served(client: Client) -> str:
    job = client.wait(client.submit(SPEC).id, timeout_s=240)
    assert job.status == "succeeded", job.error
    client.version("flats", 1, wait_s=30)
    return "flats"


def test_rows_and_columns_are_answered_alike_over_grpc_and_http(
    client: Client, stack: RunningStack, served: str
) -> None:
    columns = {name: [row.get(name) for row in ROWS] for name in ("age", "city", "rooms")}
    with Predictor(stack.addresses.serving_grpc) as predictor:
        expected = predictor.predict(served, ROWS).output
        np.testing.assert_array_equal(predictor.predict(served, columns).output, expected)
    assert expected.shape == (4, 1)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(client.predict(served, ROWS), expected, atol=1e-6)
    np.testing.assert_allclose(client.predict(served, columns, version=1), expected, atol=1e-6)


def test_a_misspelt_column_is_told_before_anything_is_sent(stack: RunningStack, served: str) -> None:
    with (
        Predictor(stack.addresses.serving_grpc) as predictor,
        pytest.raises(InvalidInputError, match="did you mean 'city'"),
    ):
        predictor.predict(served, [{**ROWS[0], "citty": "Rome"}])


WORDS = ["très bien", "nicht gut", "", "とても 良い"]
PEOPLE: list[dict[str, Any]] = [
    {
        "age": None if n % 5 == 4 else 18.0 + n,
        "city": None if n % 7 == 5 else CITIES[n % 3],
        "note": WORDS[n % 4],
        "since": None if n % 10 == 7 else f"20{10 + n % 15}-{1 + n % 12:02}-{1 + n % 28:02}",
        "species": ["cat", "łoś"][n % 2],
    }
    for n in range(60)
]
COLUMNS = ["age", "city", "note", "since"]
ALL_KINDS: dict[str, Any] = {
    "name": "people",
    "model": {
        "kind": "sequential",
        "layers": [
            {"class_name": "Dense", "config": {"units": 8, "activation": "relu"}},
            {"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}},
        ],
    },
    "data": {
        "kind": "inline",
        "rows": PEOPLE,
        "features": COLUMNS,
        "label": "species",
        "columns": {
            "age": {"kind": "number", "missing": "median"},
            "city": {"kind": "category", "missing": "unknown"},
            "note": {"kind": "text", "max_tokens": 30},
            "since": {"kind": "date", "missing": "2020-01-01"},
            "species": {"kind": "category"},
        },
        "split": {"by": "stratified", "fractions": [0.6, 0.4]},
    },
    "compile": {"loss": "sparse_categorical_crossentropy", "optimizer": "adam"},
    "fit": {"epochs": 2},
    "export": [
        {"format": "saved_model", "signatures": ["classify"]},
        {"format": "tflite"},
        {"format": "onnx"},
    ],
    "seed": 1,
}


@pytest.fixture(scope="module")
def people(client: Client) -> str:
    job = client.wait(client.submit(ALL_KINDS).id, timeout_s=240)
    assert job.status == "succeeded", job.error
    client.version("people", 1, wait_s=30)
    return "people"


def sampled(client: Client, folder: Path) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Held-out rows of the training frame as a request sends them, and what Keras answered to them."""
    with np.load(client.download("people", 1, "samples", folder / "samples.npz")) as samples:
        columns = {
            name.removeprefix("inputs/"): samples[name].tolist() for name in samples if name[:2] == "in"
        }
        (answers,) = (samples[name] for name in samples if name.startswith("outputs/"))
    return columns, answers


def test_the_training_frame_s_rows_get_keras_s_answers_as_json_over_rest(
    client: Client, stack: RunningStack, people: str, tmp_path: Path
) -> None:
    columns, expected = sampled(client, tmp_path)
    assert any(math.isnan(age) for age in columns["age"])
    assert "" in columns["city"]
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    body = json.dumps({"instances": rows})  # NaN and all
    answer = httpx.post(
        f"{stack.addresses.serving_rest}/v1/models/{people}:predict", content=body, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-6)


def test_the_client_sends_none_for_what_is_missing(
    client: Client, stack: RunningStack, people: str, tmp_path: Path
) -> None:
    columns, expected = sampled(client, tmp_path)
    columns["age"] = [None if math.isnan(age) else age for age in columns["age"]]
    for name in ("city", "since"):
        columns[name] = [cell or None for cell in columns[name]]
    with Predictor(stack.addresses.serving_grpc) as predictor:
        np.testing.assert_allclose(predictor.predict(people, columns).output, expected, atol=1e-6)
    np.testing.assert_allclose(client.predict(people, columns), expected, atol=1e-6)


def test_what_training_never_saw_is_answered_by_the_core_alike(
    client: Client, stack: RunningStack, people: str, tmp_path: Path
) -> None:
    """The numbers that the served graph makes of unseen rows give the same answers in TFLite and ONNX."""
    unseen = [
        {"age": 130, "city": "Ünknown", "note": "łoś łoś", "since": "2031-12-31"},
        {"age": None, "city": None, "note": None, "since": None},
        {"age": 0.5, "city": "rome", "note": "Très, BIEN!", "since": "1999-02-28T23:59"},
    ]
    with Predictor(stack.addresses.serving_grpc) as predictor:
        expected = predictor.predict(people, unseen).output
    assert np.isfinite(expected).all()
    assert np.unique(expected, axis=0).shape == expected.shape
    fitted = Fitted.of(
        json.loads(client.download("people", 1, "preprocessing", tmp_path / "p.json").read_text())
    )
    prepared = core_of(fitted, unseen)
    onnx = onnxruntime.InferenceSession(str(client.download("people", 1, "onnx", tmp_path / "m.onnx")))
    (name,) = (each.name for each in onnx.get_inputs())
    np.testing.assert_allclose(onnx.run(None, {name: prepared})[0], expected, atol=1e-5)
    lite = Interpreter(model_path=str(client.download("people", 1, "tflite", tmp_path / "m.tflite")))
    np.testing.assert_allclose(
        next(iter(lite.get_signature_runner()(**{name: prepared}).values())), expected, atol=1e-5
    )


SHAPES: dict[str, Any] = {
    "name": "shapes",
    "model": {
        "kind": "sequential",
        "layers": [
            {"class_name": "Rescaling", "config": {"scale": 0.0625}},
            {"class_name": "Flatten"},
            {"class_name": "Dense", "config": {"units": 10, "activation": "softmax", "name": "digit"}},
        ],
    },
    "data": {"kind": "npz", "uri": "dataset://shapes", "features": "x", "label": "y"},
    "compile": {"loss": "sparse_categorical_crossentropy"},
    "export": [{"format": "saved_model", "signatures": ["classify", "image_bytes"]}],
    "seed": 1,
}


@pytest.fixture(scope="module")
def shapes(client: Client, data: Path) -> str:
    client.upload(data / "digits.npz", name="shapes")
    job = client.wait(client.submit(SHAPES).id, timeout_s=240)
    assert job.status == "succeeded", job.error
    client.version("shapes", 1, wait_s=30)
    return "shapes"


def test_examples_are_classified_over_grpc_and_rest_by_the_names_of_the_classes(
    client: Client, stack: RunningStack, people: str
) -> None:
    assert sorted(client.version(people, 1).signature or {}) == ["classify", "core", "serving_default"]
    rows = [{"age": 31, "city": "Rome"}, {"note": "nicht gut", "since": "2020-02-29"}]
    sent = [example(**row) for row in rows]
    with Predictor(stack.addresses.serving_grpc) as predictor:
        expected = predictor.predict(people, [dict.fromkeys(COLUMNS) | row for row in rows]).output
        answer = predictor.predict(people, {"inputs": sent}, signature="classify")
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-6)
    names = [[str(name, "utf-8") for name in row] for row in answer["classes"]]
    assert names == [["cat", "łoś"]] * 2
    over_rest = asked_over_rest(stack, people, "classify", sent)
    assert [row["classes"] for row in over_rest] == names
    np.testing.assert_allclose([row["scores"] for row in over_rest], expected, atol=1e-6)


def test_images_are_answered_over_grpc_and_rest_as_their_pixels_are(
    stack: RunningStack, shapes: str, data: Path
) -> None:
    pixels = np.load(data / "digits.npz")["x"][:3]
    files = [png(image) for image in pixels]
    with Predictor(stack.addresses.serving_grpc) as predictor:
        expected = predictor.predict(shapes, pixels).output
        answer = predictor.predict(shapes, {"image_bytes": files}, signature="image_bytes")
    np.testing.assert_allclose(answer.output, expected, atol=1e-6)
    np.testing.assert_allclose(asked_over_rest(stack, shapes, "image_bytes", files), expected, atol=1e-6)


def test_the_examples_of_the_serving_page_are_answered(
    stack: RunningStack, people: str, shapes: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "shape.png").write_bytes(png(np.load(data / "digits.npz")["x"][0]))
    blocks = [block for block in blocks_of(ROOT / "docs" / "serving.md") if "signatures" in block.words]
    printed = []
    for block in blocks:
        command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euc"]
        addresses = stack.addresses
        text = block.at(api=addresses.api, grpc=addresses.serving_grpc, rest=addresses.serving_rest[7:])
        done = subprocess.run(
            [*command, text], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    assert "b'cat'" in printed[0]
    assert len(json.loads(printed[1])["predictions"][0]) == 10


def example(**columns: Any) -> bytes:
    """Serialize a `tf.Example` of texts and numbers."""
    made = Example()
    for name, value in columns.items():
        feature = made.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        else:
            feature.float_list.value.append(value)
    return made.SerializeToString()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0].astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def asked_over_rest(stack: RunningStack, model: str, signature: str, inputs: list[bytes]) -> Any:
    body = {
        "signature_name": signature,
        "instances": [{"b64": base64.b64encode(each).decode()} for each in inputs],
    }
    answer = httpx.post(
        f"{stack.addresses.serving_rest}/v1/models/{model}:predict", json=body, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def core_of(fitted: Fitted, rows: list[dict[str, Any]]) -> np.ndarray:
    """Prepare rows by what the version says that it learnt, without TensorFlow, for columns of this spec."""
    learnt, pieces = fitted.columns, []
    ages = np.array([math.nan if row["age"] is None else row["age"] for row in rows], np.float32)
    ages = np.where(np.isnan(ages), np.float32(learnt["age"]["fill"]), ages)
    pieces.append(((ages - learnt["age"]["mean"]) / learnt["age"]["deviation"])[:, None])
    cities = learnt["city"]["vocabulary"]
    index = [1 + cities.index(row["city"]) if row["city"] in cities else 0 for row in rows]
    pieces.append(np.eye(len(cities) + 1)[index])
    words = ["[UNK]", *learnt["note"]["vocabulary"]]
    hot = np.zeros((len(rows), len(words)))
    for place, row in enumerate(rows):
        for word in re.sub(r"[^\w\s]", "", (row["note"] or "").lower()).split():
            hot[place, words.index(word) if word in words else 0] = 1
    pieces.append(hot)
    for place, row in enumerate(rows):
        rows[place] = {**row, "since": datetime.fromisoformat(row["since"] or "2020-01-01")}
    when = [row["since"] for row in rows]
    pieces.append(
        np.array([[(t.year - learnt["since"]["mean"]) / learnt["since"]["deviation"]] for t in when])
    )
    for number, first, period in (
        (lambda t: t.month, 1, 12),
        (lambda t: t.day, 1, 31),
        (lambda t: t.weekday(), 0, 7),
    ):
        angles = np.array([2 * math.pi * (number(t) - first) / period for t in when])
        pieces.append(np.stack([np.sin(angles), np.cos(angles)], axis=1))
    return np.concatenate(pieces, axis=1).astype(np.float32)
