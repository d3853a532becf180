"""Data sets that go: not while a job needs them, and with their content unless another has it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.context import Context
from service.errors import DatasetInUseError, SpecRefusedError
from service.jobs import Kind
from service.kind import Site
from service.records import Records
from service.settings import Settings
from service.submission import new_training_job
from tests.service.web import TABLE, Web
from tests.service.workbench import (
    SPEC,
    Submit,
    ask,
    fail_ingest,
    fetch,
    new,
    put_tiny,
    read,
)

pytestmark = pytest.mark.usefixtures("no_worker_is_waited_for")


def test_a_data_set_that_is_used_is_kept_and_then_goes_with_its_content(
    open_settings: Settings, open_site: Site, submit: Submit, web: Web
) -> None:
    job = submit(web.uri())
    fetch(open_site)
    read(open_site)
    (file,) = open_settings.data_root.glob("??/*")
    conversions = open_settings.data_root / ".conversions"
    assert list(conversions.iterdir())

    async def talk(client: httpx.AsyncClient, context: Context) -> list[int]:
        async def remove() -> int:
            return (await client.delete(f"/v1/datasets/{job.dataset_id}")).status_code

        used = await remove()
        context.records.jobs.cancel(job.id)
        return [used, await remove(), await remove()]

    assert ask(open_settings, talk) == [409, 204, 404]
    assert not file.exists()
    assert not list(conversions.iterdir())
    assert not list(open_settings.data_root.glob(".deleted-*"))


def test_a_content_that_another_data_set_has_stays(settings: Settings, records: Records) -> None:
    async def talk(client: httpx.AsyncClient, context: Context) -> list[Any]:
        for name in ("one", "two"):
            await client.post("/v1/datasets", files={"file": ("t.csv", TABLE)}, data={"name": name})
            fail_ingest(context.records)
        first = await client.delete("/v1/datasets/one")
        files = len([*settings.data_root.glob("??/*")])
        second = await client.delete("/v1/datasets/two")
        return [first.status_code, files, second.status_code, len([*settings.data_root.glob("??/*")])]

    assert ask(settings, talk) == [204, 1, 204, 0]


def test_a_content_stays_where_its_removal_could_not_be_recorded(records: Records) -> None:
    put_tiny(records)
    told = []

    def fail(digest: str) -> None:
        told.append(digest)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        records.datasets.delete("ds_tiny", orphaned=fail)
    assert (len(told), records.datasets.get("ds_tiny").status) == (1, "ready")


def test_a_data_set_is_used_by_the_row_that_reads_it(records: Records) -> None:
    put_tiny(records, ready=False, ingest=new(Kind.INGEST))
    with pytest.raises(DatasetInUseError):
        records.datasets.delete("ds_tiny", orphaned=lambda _: None)


def test_a_job_on_a_data_set_that_was_deleted_meanwhile_is_refused(records: Records) -> None:
    put_tiny(records)
    asked = new_training_job(SPEC, records)
    assert records.datasets.delete("ds_tiny", orphaned=lambda _: None)
    with pytest.raises(SpecRefusedError) as refused:
        records.jobs.submit(asked)
    assert [fault.pointer for fault in refused.value.faults] == ["/data/uri"]
