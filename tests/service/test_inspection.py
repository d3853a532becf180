"""POST /v1/models:inspect, with a worker in this process and its children for real."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import SpecRefusedError
from service.inspection import new_inspection
from service.records import Records
from service.settings import Settings
from tests.service.workbench import ask, put_tiny, working

MODEL = {"kind": "sequential", "layers": [{"class_name": "Dense", "config": {"units": 3}}]}
DATA = {"kind": "csv", "uri": "dataset://tiny", "features": ["a", "b"], "label": "y"}


def inspected(settings: Settings, *bodies: dict[str, Any]) -> list[Any]:
    async def talk(client, context):
        return [await client.post("/v1/models:inspect", json=body) for body in bodies]

    with working(settings):
        return ask(settings, talk)


def test_a_model_is_described_with_the_shapes_of_its_data(local: Settings, own_records: Records) -> None:
    put_tiny(own_records)
    bad = {
        "kind": "sequential",
        "layers": [{"class_name": "Conv2D", "config": {"filters": 1, "kernel_size": 3}}],
    }
    described, by_shape, refused = inspected(
        local,
        {"model": MODEL, "data": DATA, "compile": {"optimizer": "adam", "loss": "mse"}},
        {"model": MODEL, "inputs": {"x": [4]}},
        {"model": bad, "data": DATA},
    )
    assert (described.status_code, described.json()["parameters"]) == (200, 9)
    assert described.json()["training_bytes"]["batch_size"] == 32
    assert by_shape.json()["parameters"] == 15
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/model/layers/0"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/model"),
        ({"model": MODEL, "data": {**DATA, "features": ["a", "nope"]}}, "/data/features/1"),
        ({"model": MODEL, "data": DATA, "inputs": {"x": [2]}}, "/inputs"),
        ({"model": MODEL, "data": {**DATA, "columns": {"a": {"kind": "category"}}}}, "/data/columns/a"),
        ({"model": MODEL, "input": {"x": [2]}}, "/input"),
        ({"model": {"kind": "sequential", "layers": [{"class_name": "Dens"}]}}, "/model/layers/0/class_name"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_without_a_worker(
    own_records: Records, body: dict[str, Any], pointer: str
) -> None:
    put_tiny(own_records)
    with pytest.raises(SpecRefusedError) as caught:
        new_inspection(body, own_records)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_without_a_worker_the_answer_is_where_to_look(
    local: Settings, own_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.routes.inspection.WAIT_S", 0.1)

    async def talk(client, context):
        answer = await client.post("/v1/models:inspect", json={"model": MODEL, "inputs": {"x": [4]}})
        return answer, (await client.get(answer.headers["Location"])).json()

    answer, row = ask(local, talk)
    assert (answer.status_code, row["kind"], row["status"]) == (202, "inspect", "queued")
