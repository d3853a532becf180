"""Explicit sets for validation and test: resolved when a job is taken, and held for it."""

from __future__ import annotations

from typing import Any

import pytest

from service.data import place_of
from service.errors import DatasetInUseError, SpecRefusedError
from service.jobs import Kind, SlotKind, Status
from service.kind import Site
from service.records import Records
from service.submission import new_training_job
from tests.service.workbench import COLUMNS, FOUND, SPEC, claim, fail_ingest, new, put_tiny

DIGEST = "sha256:" + "b" * 64


def put(records: Records, name: str, *, ready: bool = True, **found: Any) -> str:
    """A data set of this name; its id."""
    id_ = f"ds_{name}"
    records.datasets.create(
        dataset_id=id_, name=name, digest=DIGEST, size_bytes=1, filename="v.csv", ingest=new(Kind.INGEST)
    )
    if ready:
        assert records.datasets.ingested(claim(records, slot=SlotKind.SHORT), {**FOUND, **found})
    return id_


def body(**data: Any) -> dict[str, Any]:
    return {**SPEC, "data": {**SPEC["data"], **data}}


def refused(spec: dict[str, Any], records: Records) -> dict[str, str]:
    with pytest.raises(SpecRefusedError) as error:
        new_training_job(spec, records)
    return {fault.pointer: fault.detail for fault in error.value.faults}


def test_a_name_is_resolved_to_an_id_when_the_job_is_taken(site: Site, records: Records) -> None:
    put_tiny(records)
    id_ = put(records, "val")
    job = records.jobs.create(new_training_job(body(validation={"uri": "dataset://val"}), records))
    assert job.spec["data"]["validation"] == {"uri": f"dataset://{id_}"}
    assert job.spec["data"]["uri"] == "dataset://tiny"
    place = place_of(site, job)
    assert place["further"]["validation"]["digest"] == DIGEST
    assert place["further"]["validation"]["data_file"].endswith("b" * 64)
    assert place["data_file"].endswith("a" * 64)


def test_what_is_wrong_with_a_further_set_is_told_with_its_place(records: Records) -> None:
    put_tiny(records)
    put(records, "npz", kind="npz")
    put(records, "narrow", schema={"columns": COLUMNS[:2]})
    told = refused(body(validation={"uri": "dataset://npz"}, test={"uri": "dataset://absent"}), records)
    assert told == {
        "/data/validation/uri": "data set npz is of kind 'npz'",
        "/data/test/uri": "there is no data set 'absent'; POST /v1/datasets makes one",
    }
    told = refused(body(test={"uri": "dataset://narrow"}), records)
    assert told == {"/data/test/uri": "column 'y' is not in data set narrow; it has a, b"}
    assert list(refused(body(test={"uri": "https://example.org/a.csv"}), records)) == ["/data/test/uri"]


def test_a_split_beside_an_explicit_set_is_one_fault(records: Records) -> None:
    put_tiny(records)
    put(records, "val")
    told = refused(body(validation={"uri": "dataset://val"}, validation_split=0.2), records)
    assert list(told.values()) == ["validation beside data: leave split and validation_split out"]


def test_the_column_of_a_split_must_be_there(records: Records) -> None:
    put_tiny(records)
    told = refused(body(split={"by": "column", "column": "part"}), records)
    assert told == {"/data/split/column": "column 'part' is not in data set tiny; it has a, b, y"}


def test_a_job_waits_for_all_its_sets_and_holds_them(records: Records) -> None:
    put_tiny(records)
    id_ = put(records, "val", ready=False)
    job = records.jobs.create(new_training_job(body(validation={"uri": "dataset://val"}), records))
    assert records.claims.claim_next(SlotKind.DEVICE, "w", 30) is None
    assert records.datasets.ingested(claim(records, slot=SlotKind.SHORT), FOUND)
    assert records.claims.claim_next(SlotKind.DEVICE, "w", 30).job.id == job.id
    with pytest.raises(DatasetInUseError, match=job.id):
        records.datasets.delete(id_, orphaned=lambda _: None)


def test_a_job_fails_with_the_set_that_can_not_be_read(records: Records) -> None:
    put_tiny(records)
    put(records, "val", ready=False)
    job = records.jobs.create(new_training_job(body(validation={"uri": "dataset://val"}), records))
    fail_ingest(records)
    records.recovery.recover()
    now = records.jobs.get(job.id)
    assert (now.status, now.error["location"]) == (Status.FAILED, {"pointer": "/data/validation/uri"})
