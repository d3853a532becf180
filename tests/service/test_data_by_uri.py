"""Data by URI: from a request to a data set that a worker fetches, and a job that waits for it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.context import Context
from service.errors import SpecRefusedError
from service.jobs import Kind, SlotKind, Status
from service.kind import Site
from service.records import Records
from service.settings import Settings
from service.submission import new_training_job
from service.uris import Allowed
from tests.acceptance.stack import wait_for
from tests.service.web import TABLE, Web
from tests.service.workbench import (
    SPEC,
    Submit,
    ask,
    claim,
    dataset_of,
    fail_ingest,
    fetch,
    found,
    new,
    put_tiny,
    read,
    working,
)

pytestmark = pytest.mark.usefixtures("no_worker_is_waited_for")
OTHER = TABLE.replace(b"12", b"13")


def test_a_job_waits_until_its_data_are_fetched_and_read_and_knows_their_digest(
    open_site: Site, submit: Submit, web: Web
) -> None:
    job = submit(web.uri())
    assert (job.status, job.dataset_digest) == (Status.QUEUED, None)
    claims = open_site.records.claims
    assert claims.claim_next(SlotKind.DEVICE, "w", 30) is None
    fetch(open_site)
    assert claims.claim_next(SlotKind.DEVICE, "w", 30) is None
    read(open_site)
    dataset = dataset_of(open_site, job)
    assert (dataset.status, dataset.kind, dataset.size_bytes) == ("ready", "csv", len(TABLE))
    held = claim(open_site.records)
    assert (held.job.id, held.job.dataset_digest) == (job.id, dataset.digest)
    assert not list(open_site.settings.data_root.glob(".fetch-*"))


def test_the_same_uri_is_fetched_once_and_stays_the_same_content(
    open_site: Site, submit: Submit, web: Web
) -> None:
    first = submit(web.uri())
    assert submit(web.uri()).dataset_id == first.dataset_id
    fetch(open_site)
    read(open_site)
    web.files["/data.csv"] = OTHER
    again = submit(web.uri())
    assert again.dataset_digest == dataset_of(open_site, first).digest
    assert len(web.asked) == 1


def test_a_waiting_upload_holds_its_job_too(records: Records) -> None:
    put_tiny(records, ready=False)
    records.jobs.create(new_training_job(SPEC, records))
    assert records.claims.claim_next(SlotKind.DEVICE, "w", 30) is None


def test_a_job_whose_data_can_not_be_had_fails_with_the_reason(
    open_site: Site, submit: Submit, web: Web
) -> None:
    job = submit(web.uri("/missing.csv?sig=secret"))
    fetch(open_site)
    open_site.records.recovery.recover()
    now = found(open_site, job)
    assert (now.status, now.error["code"], now.error["retryable"]) == (
        Status.FAILED,
        "data_unreachable",
        False,
    )
    assert "404" in now.error["detail"]
    assert now.error["location"] == {"pointer": "/data/uri"}


def test_a_job_whose_data_can_not_be_read_fails_with_the_reason(
    open_site: Site, submit: Submit, web: Web
) -> None:
    web.files["/x.bin"] = b"\0\1\2"
    job = submit(web.uri("/x.bin"))
    fetch(open_site)
    read(open_site)
    open_site.records.recovery.recover()
    now = found(open_site, job)
    assert (now.status, now.error["code"]) == (Status.FAILED, "invalid_data")


def test_a_job_whose_upload_could_not_be_read_fails_too(records: Records) -> None:
    put_tiny(records, ready=False, ingest=new(Kind.INGEST))
    job = records.jobs.create(new_training_job(SPEC, records))
    fail_ingest(records)
    records.recovery.recover()
    now = records.jobs.get(job.id)
    assert (now.status, now.error["detail"]) == (Status.FAILED, "data set ds_tiny can't be used: broken")


def test_a_job_whose_fetch_was_cancelled_does_not_wait_for_ever(
    open_site: Site, submit: Submit, web: Web
) -> None:
    job = submit(web.uri())
    open_site.records.jobs.cancel(dataset_of(open_site, job).ingest_id)
    open_site.records.recovery.recover()
    assert found(open_site, job).status is Status.FAILED


def test_a_passing_failure_is_tried_again_and_a_failed_uri_is_fetched_anew(
    open_site: Site, submit: Submit, web: Web
) -> None:
    web.failing = 1
    job = submit(web.uri())
    fetch(open_site)
    waiting = open_site.records.jobs.get(dataset_of(open_site, job).ingest_id)
    assert (waiting.status, waiting.attempt) == (Status.QUEUED, 1)
    assert "503" in open_site.records.jobs.transitions(waiting.id)[-1].reason
    open_site.records.jobs.cancel(waiting.id)
    again = submit(web.uri())
    assert dataset_of(open_site, again).status == "pending"
    fetch(open_site)
    read(open_site)
    assert dataset_of(open_site, again).status == "ready"


def test_data_larger_than_an_upload_may_be_are_refused(open_site: Site, submit: Submit, web: Web) -> None:
    small = open_site.settings.model_copy(update={"max_upload_bytes": 10})
    job = submit(web.uri())
    fetch(Site(small, open_site.records, open_site.store))
    assert "larger than 10 bytes" in dataset_of(open_site, job).error["detail"]


def test_secrets_of_a_uri_are_in_no_answer_no_log_and_no_spec(
    open_settings: Settings, open_site: Site, web: Web
) -> None:
    uri = f"http://me:se%20cret@{web.place}/missing.csv?sig=hush"

    async def talk(client: httpx.AsyncClient, _: Context) -> list[str]:
        body = {**SPEC, "data": {**SPEC["data"], "uri": uri}}
        job = await client.post("/v1/jobs", json=body)
        assert job.status_code == 202, job.text
        fetch(open_site)
        open_site.records.recovery.recover()
        paths = (f"/v1/jobs/{job.json()['id']}", "/v1/datasets", "/v1/jobs?kind=fetch")
        return [job.text, *[(await client.get(path)).text for path in paths]]

    answers = ask(open_settings, talk)
    for file in open_settings.jobs_folder.rglob("*"):
        if file.is_file() and file.name != "order.json":
            answers.append(file.read_text())
    assert any("404" in answer for answer in answers)
    assert [answer for answer in answers if "cret" in answer or "hush" in answer] == []
    (order,) = open_settings.jobs_folder.rglob("order.json")
    assert order.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "uri", ["https://example.org/a.csv", "file:///etc/passwd", "s3://bucket/a.csv", "nothing"]
)
def test_what_is_not_allowed_is_refused_with_its_place(
    settings: Settings, records: Records, uri: str
) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> list[httpx.Response]:
        spec = {**SPEC, "data": {**SPEC["data"], "uri": uri}}
        return [
            await client.post("/v1/datasets", json={"uri": uri}),
            await client.post("/v1/jobs", json=spec),
            await client.get("/v1/datasets"),
        ]

    dataset, job, listed = ask(settings, talk)
    assert (dataset.status_code, job.status_code, listed.json()["data"]) == (422, 422, [])
    assert [each["pointer"] for each in dataset.json()["errors"]] == ["/uri"]
    assert [each["pointer"] for each in job.json()["errors"]] == ["/data/uri"]
    assert "dataset://" in job.json()["errors"][0]["detail"]


def test_a_data_set_is_made_from_a_uri_under_a_name(
    open_settings: Settings, open_site: Site, web: Web
) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> list[Any]:
        body = {"uri": web.uri("/data.csv?sig=hush"), "name": "table"}
        made = await client.post("/v1/datasets", json=body)
        assert made.status_code == 202
        fetch(open_site)
        read(open_site)
        again = await client.post("/v1/datasets", json=body)
        other = await client.post("/v1/datasets", json={**body, "uri": web.uri()})
        misspelt = await client.post("/v1/datasets", json={"url": web.uri()})
        return [made.json(), again, other, misspelt]

    made, again, other, misspelt = ask(open_settings, talk)
    assert (made["status"], made["digest"], made["uri"]) == ("pending", None, web.uri("/data.csv?sig=***"))
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (201, made["id"], "ready")
    assert other.json()["code"] == "name_taken"
    assert {each["pointer"] for each in misspelt.json()["errors"]} == {"/url", "/uri"}


def test_a_worker_fetches_and_reads_by_itself(open_settings: Settings, records: Records, web: Web) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> str:
        return (await client.post("/v1/datasets", json={"uri": web.uri()})).json()["id"]

    made = ask(open_settings, talk)
    with working(open_settings):
        wait_for(lambda: records.datasets.get(made).status == "ready", 60)


def test_nothing_is_made_of_a_uri_in_a_spec_that_is_refused(records: Records, web: Web) -> None:
    body = {**SPEC, "data": {**SPEC["data"], "uri": web.uri()}, "fit": {"epoch": 1}}
    with pytest.raises(SpecRefusedError):
        new_training_job(body, records, Allowed.of("", web.place))
    assert records.datasets.page(before_seq=None, limit=5) == []
