"""What the API answers, to the odd body and address too, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.context import Context
from service.errors import DatabaseUnavailableError
from service.jobs import Kind
from service.records import Records
from service.serving_client import ServingClient
from service.settings import Settings
from tests.service.workbench import SPEC, ask, claim, fail_ingest, new, put_tiny


def away(*_: object) -> Any:
    raise DatabaseUnavailableError("away for a moment")


WEIRD_BODIES = {
    "an integer of 5000 digits": ('{"seed": ' + "9" * 5000 + "}", ""),
    "a lone surrogate in a value": (
        json.dumps({**SPEC, "data": {**SPEC["data"], "uri": "dataset://\ud800"}}),
        "/data/uri",
    ),
    "a lone surrogate in a key": (json.dumps({**SPEC, "labels": {"\ud800": "v"}}), "/labels"),
    "a lone surrogate that the spec lets through": (
        json.dumps(
            {
                **SPEC,
                "model": {
                    "kind": "sequential",
                    "layers": [{"class_name": "Dense", "config": {"units": 1, "name": "\ud800"}}],
                },
            }
        ),
        "/model",
    ),
    "a label's key that is too long": (
        json.dumps({**SPEC, "labels": {"k" * 64: "v"}}),
        "/labels/" + "k" * 64,
    ),
    "a class weight for no class": (
        json.dumps({**SPEC, "fit": {"class_weight": {"x": 1.0}}}),
        "/fit/class_weight/x",
    ),
    "a column without a name": (
        json.dumps({**SPEC, "data": {**SPEC["data"], "columns": {"": {}}}}),
        "/data/columns/",
    ),
    "a format with an apostrophe": (
        json.dumps({**SPEC, "export": [{"format": "o'nnx"}]}),
        "/export/0/format",
    ),
    "two exports of one name": (
        json.dumps({**SPEC, "export": [{"format": "onnx"}, {"format": "onnx"}]}),
        "/export",
    ),
    "an export named like the service's own artifact": (
        json.dumps({**SPEC, "export": [{"format": "tflite", "name": "samples"}]}),
        "/export",
    ),
    "a number that is not finite": (json.dumps({**SPEC, "seed": float("inf")}), "/seed"),
    "nesting without end": ('{"model": ' + '{"a": ' * 300 + "1" + "}" * 301, "/model/a/a"),
    "nesting beyond what a reader bears": ("[" * 100_000, ""),
    "a label's key that a list can't be filtered by": (
        json.dumps({**SPEC, "labels": {'a"b': "v"}}),
        '/labels/a"b',
    ),
    "a label's key that isn't ASCII": (json.dumps({**SPEC, "labels": {"é": "v"}}), "/labels/é"),
    "a label's key with the sign that ends it": (json.dumps({**SPEC, "labels": {"a=b": "v"}}), "/labels/a=b"),
    "a control character in a label": (json.dumps({**SPEC, "labels": {"a": "b\x01"}}), "/labels/a"),
    "NUL in a label's key": (json.dumps({**SPEC, "labels": {"a\0": "v"}}), "/labels/a\0"),
    "NUL in a data set's name": (
        json.dumps({**SPEC, "data": {**SPEC["data"], "uri": "dataset://\0"}}),
        "/data/uri",
    ),
}


@pytest.mark.parametrize(("body", "pointer"), WEIRD_BODIES.values(), ids=list(WEIRD_BODIES))
def test_a_weird_body_is_refused_with_the_place_of_its_fault(
    settings: Settings, records: Records, body: str, pointer: str
) -> None:
    put_tiny(records)

    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        return await client.post("/v1/jobs", content=body)

    answer = ask(settings, talk)
    assert answer.status_code == 422, answer.text
    assert any(error["pointer"].startswith(pointer) for error in answer.json()["errors"]), answer.text


def test_no_address_makes_the_server_fail(settings: Settings, records: Records) -> None:
    put_tiny(records)
    job = records.jobs.create(new())

    def cursor(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode()

    beyond, huge = "9" * 30, "9" * 5000
    addresses = [
        "/v1/jobs/%00",
        "/v1/jobs/%00/events",
        "/v1/jobs/%00/metrics",
        "/v1/datasets/%00",
        "/v1/models/%00/versions",
        "/v1/jobs?model=%00",
        "/v1/jobs?label=k%00=v",
        "/v1/jobs?label=k=%00",
        f"/v1/models/m/versions/{2**31}",
        f"/v1/models/m/versions/{beyond}",
        f"/v1/models/m/versions/{beyond}/artifacts/x",
        f"/v1/jobs/{job.id}/events?after={beyond}",
        *(
            f"/v1/{kind}?after={after}"
            for kind in ("jobs", "datasets", "models")
            for after in (
                "%C3%A9",
                cursor("²"),
                cursor(beyond),
                cursor(huge),
                cursor(str(2**63)),
                cursor("\0"),
            )
        ),
    ]

    async def talk(client: httpx.AsyncClient, _: Context) -> list[str]:
        asked = [(address, await client.get(address)) for address in addresses]
        posted = [f"/v1/models/{model}:predict" for model in ("%00", "a%0Ab")]
        asked += [(address, await client.post(address, content=b"{}")) for address in posted]
        return [address[:60] for address, answer in asked if answer.status_code >= 500]

    assert ask(settings, talk) == []


@pytest.mark.parametrize(
    "address",
    ["/v1/jobs/%00", "/v1/datasets/a%0Ab", "/v1/models/M/versions", "/v1/models/m/versions/0", "/v1/nothing"],
)
def test_what_can_not_be_an_address_is_not_found(settings: Settings, records: Records, address: str) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        return await client.get(address)

    answer = ask(settings, talk)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("key", ["team", "a.b", "a/b-c", "9", "k" * 63])
@pytest.mark.parametrize("value", ["v", "", "é=\\'\"", "v" * 255])
def test_a_job_is_found_by_every_label_that_was_taken(
    settings: Settings, records: Records, key: str, value: str
) -> None:
    put_tiny(records)

    async def talk(client: httpx.AsyncClient, _: Context) -> tuple[httpx.Response, httpx.Response]:
        taken = await client.post("/v1/jobs", json={**SPEC, "labels": {key: value}})
        return taken, await client.get("/v1/jobs", params={"label": f"{key}={value}"})

    taken, found = ask(settings, talk)
    assert [job["id"] for job in found.json()["data"]] == [taken.json()["id"]]


def test_one_jobs_label_never_breaks_the_list_for_all(settings: Settings, records: Records) -> None:
    put_tiny(records)

    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        await client.post("/v1/jobs", json={**SPEC, "labels": {"a\0": "v"}})
        return await client.get("/v1/jobs?label=team=a")

    assert ask(settings, talk).status_code == 200


def test_a_page_tells_of_each_job_what_the_job_tells_of_itself(settings: Settings, records: Records) -> None:
    made = [records.jobs.create(new(priority=priority)) for priority in (0, 5, 0)]
    claim(records)
    records.jobs.cancel(made[2].id)

    async def talk(client: httpx.AsyncClient, _: Context) -> tuple[Any, list[Any]]:
        page = (await client.get("/v1/jobs")).json()["data"]
        return page, [(await client.get(f"/v1/jobs/{job.id}")).json() for job in reversed(made)]

    page, alone = ask(settings, talk)
    assert page == alone
    assert [job["queue"] for job in page] == [None, None, {"position": 1, "priority": 0}]
    assert [len(job["transitions"]) for job in page] == [2, 2, 1]


@pytest.mark.parametrize(
    "fails",
    [
        lambda context: setattr(context.records.jobs, "get", away),
        lambda context: setattr(context.records.jobs, "transitions_of", away),
        lambda context: setattr(context.records.jobs, "queue_places", away),
    ],
    ids=["the row", "its moves", "its place"],
)
def test_a_job_that_is_committed_is_accepted_whatever_fails_then(
    settings: Settings, records: Records, fails: Callable[[Context], None]
) -> None:
    """503 says that nothing was changed."""
    put_tiny(records)

    async def talk(client: httpx.AsyncClient, context: Context) -> httpx.Response:
        fails(context)
        return await client.post("/v1/jobs", json=SPEC)

    answer = ask(settings, talk)
    assert answer.status_code == 202
    assert records.jobs.get(answer.json()["id"]) is not None


def test_a_repeated_request_answers_with_its_job_though_its_data_set_failed_since(
    settings: Settings, records: Records
) -> None:
    put_tiny(records, ready=False, ingest=new(Kind.INGEST))

    async def talk(client: httpx.AsyncClient, context: Context) -> list[httpx.Response]:
        headers = {"Idempotency-Key": "k"}
        first = await client.post("/v1/jobs", json=SPEC, headers=headers)
        fail_ingest(context.records)
        return [first, await client.post("/v1/jobs", json=SPEC, headers=headers)]

    first, again = ask(settings, talk)
    assert again.json().get("id") == first.json()["id"], again.text


def test_a_stream_taken_up_after_the_terminal_event_ends(settings: Settings, records: Records) -> None:
    """An EventSource reconnects by itself with the last id it saw; it would hold a connection for ever."""
    job = records.jobs.create(new())
    last = records.jobs.cancel(job.id).last_event

    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
        return await asyncio.wait_for(client.get(f"/v1/jobs/{job.id}/events", headers=headers), 3)

    assert ask(settings, talk).is_success


def test_a_models_versions_cost_serving_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = ServingClient("127.0.0.1:1")
    asked: list[object] = []

    class Silent:
        def status(self, model: str, **_: object) -> list[object]:
            asked.append(model)
            return []

    monkeypatch.setattr(serving, "_open", Silent)
    states = serving.states("m", [1, 2, 3])
    assert {number: state.state for number, state in states.items()} == dict.fromkeys((1, 2, 3), "UNKNOWN")
    assert asked == ["m"]
