"""Data sets: what an upload becomes, and how its reading ends, whatever happens to whoever reads it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from service.context import Context
from service.errors import DatabaseUnavailableError
from service.jobs import Kind, Limits, SlotKind, Status
from service.kind import Site
from service.kinds import ingest
from service.records import Records
from service.settings import Settings
from tests.service.workbench import FOUND, ask, claim, fail_ingest, new, put_tiny


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.routes.datasets.INGEST_WAIT_S", 0.0)


def put_uploaded(records: Records, **values: Any) -> str:
    """The data set `tiny`, waiting to be read; the id of the row that will."""
    row = new(Kind.INGEST, **values)
    put_tiny(records, ready=False, ingest=row)
    return row.id


def csv(content: bytes = b"a\n1\n", name: str = "t.csv") -> dict[str, tuple[str, bytes]]:
    return {"file": (name, content)}


def test_what_was_found_and_the_end_of_the_row_are_kept_together(site: Site) -> None:
    job_id = put_uploaded(site.records)
    assert ingest.complete(claim(site.records, slot=SlotKind.SHORT), FOUND, site)
    dataset = site.records.datasets.get("ds_tiny")
    assert (dataset.status, dataset.kind, dataset.schema) == ("ready", "csv", FOUND["schema"])
    assert site.records.jobs.get(job_id).status is Status.SUCCEEDED


def test_what_looks_wrong_in_a_file_is_in_its_body(settings: Settings, records: Records) -> None:
    anomalies = [{"column": "a", "row": 1, "detail": "1 missing"}]

    async def talk(client: httpx.AsyncClient, context: Context) -> list[Any]:
        made = (await client.post("/v1/datasets", files=csv(b"a\n\n"))).json()
        held = claim(context.records, slot=SlotKind.SHORT)
        assert context.records.datasets.ingested(held, {**FOUND, "anomalies": anomalies})
        read = (await client.get(f"/v1/datasets/{made['id']}")).json()
        return [made["anomalies"], read["anomalies"], read["statistics"]]

    assert ask(settings, talk) == [None, anomalies, FOUND["statistics"]]


def test_a_fenced_ingest_writes_nothing_on_its_data_set(site: Site) -> None:
    put_uploaded(site.records)
    stale = claim(site.records, slot=SlotKind.SHORT, lost=True)
    site.records.recovery.recover()
    assert not ingest.complete(stale, FOUND, site)
    dataset = site.records.datasets.get("ds_tiny")
    assert (dataset.status, dataset.kind) == ("pending", None)


@pytest.mark.parametrize("taken", [False, True], ids=["before a worker took it", "after its worker was lost"])
def test_a_data_set_whose_ingest_was_cancelled_is_not_pending_for_ever(records: Records, taken: bool) -> None:
    job_id = put_uploaded(records)
    if taken:
        claim(records, slot=SlotKind.SHORT, lost=True)
    records.jobs.cancel(job_id)
    records.recovery.recover()
    dataset = records.datasets.get("ds_tiny")
    assert (dataset.status, dataset.error["code"]) == ("failed", "cancelled")


def test_a_data_set_says_at_once_why_its_ingest_failed(records: Records) -> None:
    put_uploaded(records)
    fail_ingest(records)
    for dataset in (records.datasets.find("tiny"), *records.datasets.page(before_seq=None, limit=5)):
        assert (dataset.status, dataset.error["detail"]) == ("failed", "broken")


def test_a_file_that_could_not_be_read_is_read_again_when_it_is_sent_again(records: Records) -> None:
    put_uploaded(records)
    fail_ingest(records)
    again = put_uploaded(records)
    dataset = records.datasets.get("ds_tiny")
    assert (dataset.status, dataset.ingest_id) == ("pending", again)


def test_a_data_set_that_was_read_is_not_read_again(records: Records) -> None:
    put_tiny(records)
    job_id = put_uploaded(records)
    assert records.datasets.get("ds_tiny").status == "ready"
    assert records.jobs.get(job_id) is None


@pytest.mark.parametrize("named", [{}, {"name": "digits"}], ids=["unnamed", "named"])
def test_the_same_upload_many_times_at_once_is_read_once(
    settings: Settings,
    records: Records,
    named: dict[str, str],
) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> tuple[set[str], int]:
        async def upload() -> httpx.Response:
            return await client.post("/v1/datasets", files=csv(), data=named)

        answers = await asyncio.gather(*(upload() for _ in range(8)))
        rows = (await client.get("/v1/jobs?kind=ingest")).json()["data"]
        return {answer.json()["id"] for answer in answers}, len(rows)

    ids, rows = ask(settings, talk)
    assert (len(ids), rows) == (1, 1)


def test_a_name_can_not_look_like_an_id(
    settings: Settings,
    records: Records,
) -> None:
    """The id of an unnamed upload is made of its content, so anybody could give it as a name beforehand."""
    own_id = "ds_" + hashlib.sha256(b"a\n1\n").hexdigest()[:20]

    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        return await client.post("/v1/datasets", files=csv(), data={"name": own_id})

    answer = ask(settings, talk)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/name"


def test_an_id_goes_before_a_name(records: Records) -> None:
    records.datasets.create(dataset_id="ds_2", name="ds_1", digest="sha256:b", size_bytes=1, filename="b")
    records.datasets.create(dataset_id="ds_1", name=None, digest="sha256:a", size_bytes=1, filename="a")
    assert records.datasets.find("ds_1").digest == "sha256:a"


def test_the_name_of_a_data_set_that_can_not_be_read_is_free_for_the_mended_file(
    settings: Settings,
    records: Records,
) -> None:
    named = {"name": "digits"}

    async def talk(client: httpx.AsyncClient, context: Context) -> list[httpx.Response]:
        broken = await client.post("/v1/datasets", files=csv(b"broken"), data=named)
        fail_ingest(context.records)
        mended = [client.post("/v1/datasets", files=csv(), data=named) for _ in range(4)]
        return [
            *await asyncio.gather(*mended),
            await client.get("/v1/datasets/digits"),
            await client.get(broken.headers["Location"]),
        ]

    *mended, by_name, broken = ask(settings, talk)
    assert {answer.status_code for answer in mended} == {202}
    assert {answer.json()["id"] for answer in mended} == {by_name.json()["id"]}
    assert (broken.json()["name"], broken.json()["status"]) == (None, "failed")


def test_the_name_of_a_data_set_that_is_being_read_is_taken(
    settings: Settings,
    records: Records,
) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        await client.post("/v1/datasets", files=csv(), data={"name": "digits"})
        return await client.post("/v1/datasets", files=csv(b"b\n2\n"), data={"name": "digits"})

    assert ask(settings, talk).json()["code"] == "name_taken"


def test_an_upload_that_is_kept_is_answered_though_the_database_goes_away_then(
    settings: Settings,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.routes.datasets.INGEST_WAIT_S", 0.1)

    async def talk(client: httpx.AsyncClient, context: Context) -> httpx.Response:
        def away(_: object) -> None:
            raise DatabaseUnavailableError("away for a moment")

        context.records.datasets.find = away  # type: ignore[method-assign,assignment]
        return await client.post("/v1/datasets", files=csv())

    assert ask(settings, talk).status_code == 202


@pytest.mark.parametrize(
    ("sent", "kept"), [(b"a\0b.csv", "ab.csv"), (b"\x1b", "data"), (b"x" * 300 + b".csv", None)]
)
def test_a_file_name_is_kept_as_far_as_it_can_be_shown(
    settings: Settings,
    records: Records,
    sent: bytes,
    kept: str | None,
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + sent
    body = head + b'"\r\n\r\nx\r\n--b--\r\n'

    async def talk(client: httpx.AsyncClient, _: Context) -> httpx.Response:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return await client.post("/v1/datasets", content=body, headers=headers)

    filename = ask(settings, talk).json()["filename"]
    assert filename == (kept or "x" * 251 + ".csv")


def test_a_lost_ingest_is_read_by_the_next_worker(site: Site) -> None:
    put_uploaded(site.records, limits=Limits(max_attempts=1))
    claim(site.records, slot=SlotKind.SHORT, lost=True)
    site.records.recovery.recover()
    assert ingest.complete(claim(site.records, slot=SlotKind.SHORT), FOUND, site)
    assert site.records.datasets.get("ds_tiny").status == "ready"
