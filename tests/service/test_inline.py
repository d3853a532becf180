"""Rows within the spec: jobs that no data set belongs to."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.context import Context
from service.errors import SpecRefusedError
from service.kind import Site
from service.kinds import train
from service.records import Records
from service.settings import Settings
from service.submission import new_training_job
from tests.service.workbench import SPEC, ask, working

ROWS = [{"a": number, "b": number / 2, "y": number % 2} for number in range(20)]
DATA: dict[str, Any] = {"kind": "inline", "rows": ROWS, "features": ["a", "b"], "label": "y"}


def test_a_job_with_rows_of_its_own_has_their_digest_and_no_data_set(site: Site) -> None:
    job = site.records.jobs.create(new_training_job({**SPEC, "data": DATA}, site.records))
    assert job.dataset_id is None
    assert job.dataset_digest is not None
    assert job.dataset_digest.startswith("sha256:")
    assert job.spec["data"]["rows"] == ROWS
    assert "data_file" not in train.prepare(job, site)


def test_columns_that_no_row_has_are_told_with_what_else_is_wrong(own_records: Records) -> None:
    body = {**SPEC, "data": {**DATA, "label": "z", "rows": [{"a": 1, "b": 2}, {"a": "x"}]}}
    with pytest.raises(SpecRefusedError) as refused:
        new_training_job(body, own_records)
    assert {fault.pointer: fault.detail for fault in refused.value.faults} == {
        "/data/rows/1/a": "is a text, where rows before have a number",
        "/data/label": "column 'z' is not in data.rows; it has a, b",
    }


@pytest.mark.full
def test_a_dry_run_reads_the_rows(local: Settings, own_records: Records) -> None:
    async def talk(client: httpx.AsyncClient, _: Context) -> list[httpx.Response]:
        spec = {**SPEC, "data": {**DATA, "validation_split": 0.2}}
        inspected = await client.post("/v1/models:inspect", json={"model": SPEC["model"], "data": DATA})
        return [inspected, await client.post("/v1/jobs:validate", json=spec)]

    with working(local):
        inspected, validated = ask(local, talk)
    assert inspected.json()["parameters"] == 3
    assert validated.json()["rows"] == {"train": 16, "validation": 4}
    assert validated.status_code == 200
