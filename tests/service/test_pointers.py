"""What a caller reads of a bad spec: a pointer into the body that was sent, and what to write instead."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.jobs import JobSpec
from service.pointers import faults_of, pointer_of

DIGITS = json.loads((Path(__file__).parents[2] / "examples" / "digits.json").read_text())


def told(change: Callable[[dict[str, Any]], object]) -> dict[str, str]:
    """The pointers and details of the digits spec after a change."""
    body = copy.deepcopy(DIGITS)
    change(body)
    with pytest.raises(ValidationError) as refused:
        JobSpec.model_validate(body)
    return {fault.pointer: fault.detail for fault in faults_of(refused.value, body, JobSpec)}


def layer(body: dict[str, Any], name: str) -> None:
    body["model"]["layers"].append({"class_name": name})


def callback(body: dict[str, Any], name: str) -> None:
    body["fit"]["callbacks"] = [{"class_name": name}]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        (lambda b: b.update(epoch=3), "/epoch", "unknown field 'epoch'; valid"),
        (lambda b: b["fit"].update(epoch=3), "/fit/epoch", "did you mean 'epochs'?"),
        (lambda b: b["fit"].update(epochs="x"), "/fit/epochs", "valid integer. Received: 'x'"),
        (lambda b: b.pop("name"), "/name", "required"),
        (lambda b: b.update(name="Bad Name"), "/name", "Received: 'Bad Name'"),
        (lambda b: b["export"].append({"format": "onnxx"}), "/export/4/format", "did you mean 'onnx'?"),
        (lambda b: b["export"].append({"format": "onnx", "opset": 99, "name": "o"}), "/export/4/opset", "99"),
        (lambda b: b["export"].append({"format": "onnx"}), "/export", "2 exports are named 'onnx'"),
        (lambda b: b["data"].update(kind="cvs"), "/data/kind", "valid: csv, "),
        (lambda b: b["data"]["pipeline"].update(batchsize=3), "/data/pipeline/batchsize", "'batch_size'"),
        (lambda b: layer(b, "Dens"), "/model/layers/LAST/class_name", "Dense"),
        (lambda b: layer(b, "Dense"), "/model/layers/LAST/config/units", "required"),
        (lambda b: b["compile"].update(optimizer="adamm"), "/compile/optimizer", "did you mean 'adam'?"),
        (lambda b: callback(b, "EarlyStoping"), "/fit/callbacks/0/class_name", "EarlyStopping"),
        (lambda b: b.update(labels={"a": 3}), "/labels/a", "Received: 3"),
        (lambda b: b.update(limits={"max_attempts": 0}), "/limits/max_attempts", "Received: 0"),
    ],
)
def test_a_fault_is_told_with_its_place_and_a_way_out(
    change: Callable[[dict[str, Any]], object], pointer: str, says: str
) -> None:
    last = str(len(DIGITS["model"]["layers"]))
    faults = told(change)
    assert list(faults) == [pointer.replace("LAST", last)]
    assert says in next(iter(faults.values()))


def test_all_faults_are_told_at_once() -> None:
    def spoil(body: dict[str, Any]) -> None:
        body["fit"]["epochs"] = "x"
        body["model"]["layers"][0]["class_name"] = "Nope"
        body["surplus"] = 1
        del body["compile"]

    assert set(told(spoil)) == {"/fit/epochs", "/model/layers/0/class_name", "/surplus", "/compile"}


@pytest.mark.parametrize("body", [None, [], "text", 3, {"name": None}])
def test_a_body_of_any_type_is_refused_with_pointers(body: object) -> None:
    with pytest.raises(ValidationError) as refused:
        JobSpec.model_validate(body)
    assert faults_of(refused.value, body, JobSpec)


def test_a_pointer_escapes_what_json_pointers_reserve() -> None:
    assert pointer_of(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"
