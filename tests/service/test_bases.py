"""Specs and evaluations that name a published version: what is told before anything is queued."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.errors import NotFoundError, SpecRefusedError
from service.evaluation import new_evaluation
from service.inspection import new_validation
from service.jobs import Kind, SlotKind
from service.kind import Site
from service.kinds import evaluate, train, validate
from service.submission import new_training_job
from serving.manifest import Manifest
from tests.service.workbench import DIGEST, FOUND, SPEC, claim, new, put_tiny

HEAD = [{"class_name": "Dense", "config": {"units": 1}}]


def publish(site: Site, kind: str = "keras", **spec: Any) -> int:
    """A version of `tiny` with the records that training keeps, though not trained."""
    job = site.records.jobs.create(new())
    held = claim(site.records)
    staging = site.store.stage("tiny", job.id, held.token)
    (staging / "saved_model.pb").write_bytes(b"graph")
    (staging / "assets.extra").mkdir()
    artifacts = []
    for name, document in {"spec": {**SPEC, **spec}, "architecture": {"kind": kind}}.items():
        (staging / "assets.extra" / f"{name}.json").write_text(json.dumps(document))
        options = {"kind": kind} if name == "architecture" else {}
        path = f"assets.extra/{name}.json"
        artifacts.append({"name": name, "format": "json", "path": path, "options": options})
    site.store.seal(staging, Manifest(model="tiny", job_id=job.id, artifacts=artifacts, metrics={}))
    assert train.complete(held, {}, site)
    number = site.records.versions.reserved(job.id)
    assert number is not None
    return number


def body(**model: Any) -> dict[str, Any]:
    return {**SPEC, "name": "tuned", "model": {"kind": "version", "name": "tiny", **model}}


def faults(ask: Any, *args: Any) -> dict[str, str]:
    with pytest.raises(SpecRefusedError) as caught:
        ask(*args)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


@pytest.fixture
def tiny(here: Site) -> Site:
    """Two versions of `tiny`, and its data set."""
    put_tiny(here.records)
    publish(here)
    publish(here)
    return here


def test_the_latest_version_is_meant_and_written_down(tiny: Site) -> None:
    job = tiny.records.jobs.create(new_training_job(body(head=HEAD, freeze="*"), tiny.records))
    assert job.spec["model"] == {
        "kind": "version",
        "name": "tiny",
        "version": 2,
        "head": HEAD,
        "freeze": "*",
    }
    assert train.prepare(job, tiny)["base"] == str(tiny.store.root / "tiny" / "2")


def test_a_version_is_meant_by_its_number(tiny: Site) -> None:
    assert new_training_job(body(version=1), tiny.records).spec["model"]["version"] == 1


def test_models_and_versions_that_are_not_there_are_told(tiny: Site) -> None:
    records = tiny.records
    assert faults(new_training_job, {**SPEC, "model": {"kind": "version", "name": "tony"}}, records) == {
        "/model/name": "there is no model 'tony' with a published version"
    }
    assert faults(new_training_job, body(version=7, freez=1), records) == {
        "/model/version": "tiny has the versions 2, 1. Received: 7",
        "/model/freez": "unknown field 'freez'; did you mean 'freeze'?",
    }


@pytest.mark.parametrize("section", [{"name": 3}, {"version": "1"}, {"version": True}, {"version": 10**30}])
def test_sections_of_another_form_are_told_by_their_form(tiny: Site, section: dict[str, Any]) -> None:
    (field,) = section
    assert list(faults(new_training_job, body(**section), tiny.records)) == [f"/model/{field}"]


def test_only_a_plugin_s_version_may_do_without_loss_and_label(tiny: Site) -> None:
    spec = body()
    del spec["compile"]
    spec["data"] = {**spec["data"], "label": None}
    told = faults(new_training_job, spec, tiny.records)
    assert told == dict.fromkeys(("/compile", "/data/label"), "this field is required")
    publish(tiny, kind="plugin")
    assert new_training_job(spec, tiny.records).kind is Kind.TRAIN


def test_a_dry_run_knows_the_version_too(tiny: Site) -> None:
    asked = new_validation(body(), tiny.records)
    assert (asked.kind, asked.name, asked.limits.memory_bytes) == (Kind.VALIDATE, None, None)
    job = tiny.records.jobs.create(asked)
    assert validate.prepare(job, tiny)["base"] == str(tiny.store.root / "tiny" / "2")


def evaluation(site: Site, asked: Any) -> Any:
    version = site.records.versions.get("tiny", 1)
    assert version is not None
    return new_evaluation(asked, version, site.records, site.store)


def test_an_evaluation_needs_no_more_than_its_rows(tiny: Site) -> None:
    asked = evaluation(tiny, {"data": {"uri": "dataset://tiny"}, "labels": {"why": "drift"}})
    assert (asked.kind, asked.name, asked.labels) == (Kind.EVALUATE, "tiny", {"why": "drift"})
    assert asked.spec == {
        "model": "tiny",
        "version": 1,
        "data": {"kind": "csv", "uri": "dataset://tiny", "features": ["a", "b"], "label": "y"},
        "compile": {"optimizer": "adam", "loss": "mse"},
    }
    job = tiny.records.jobs.create(asked)
    assert job.dataset_digest == DIGEST
    assert evaluate.prepare(job, tiny)["version_folder"] == str(tiny.store.root / "tiny" / "1")


def test_an_evaluation_may_name_other_columns_and_metrics(tiny: Site) -> None:
    asked = evaluation(
        tiny, {"data": {"uri": "dataset://tiny", "label": "a"}, "compile": {"metrics": ["mae"]}}
    )
    assert asked.spec["data"]["label"] == "a"
    assert asked.spec["compile"] == {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]}


def test_an_evaluation_may_hold_its_rows(tiny: Site) -> None:
    rows = [{"a": 1, "b": 2, "y": 3}]
    asked = evaluation(tiny, {"data": {"kind": "inline", "rows": rows}})
    assert asked.spec["data"] == {"kind": "inline", "rows": rows, "features": ["a", "b"], "label": "y"}
    assert (asked.dataset_id, asked.dataset_digest is None) == (None, False)
    assert "data_file" not in evaluate.prepare(tiny.records.jobs.create(asked), tiny)


@pytest.mark.parametrize(
    ("asked", "pointers"),
    [
        ({}, ["/data"]),
        ([], [""]),
        ({"data": {}}, ["/data/uri"]),
        ({"data": {"uri": "dataset://nowhere"}}, ["/data/uri"]),
        ({"data": {"uri": "dataset://tiny", "validation_split": 0.5}}, ["/data/validation_split"]),
        ({"data": {"uri": "dataset://tiny", "label": "z"}, "priorty": 1}, ["/data/label", "/priorty"]),
    ],
)
def test_every_fault_of_an_evaluation_is_told(tiny: Site, asked: Any, pointers: list[str]) -> None:
    assert sorted(faults(evaluation, tiny, asked)) == sorted(pointers)


def test_a_version_without_its_spec_can_not_be_scored(tiny: Site) -> None:
    (tiny.store.root / "tiny" / "1" / "assets.extra" / "spec.json").unlink()
    with pytest.raises(NotFoundError, match="keeps no record of how it was trained"):
        evaluation(tiny, {"data": {"uri": "dataset://tiny"}})


def test_the_file_s_own_kind_is_meant(tiny: Site) -> None:
    tiny.records.datasets.create(
        dataset_id="ds_more",
        name="more",
        digest=DIGEST,
        size_bytes=1,
        filename="m.npz",
        ingest=new(Kind.INGEST),
    )
    assert tiny.records.datasets.ingested(claim(tiny.records, slot=SlotKind.SHORT), {**FOUND, "kind": "npz"})
    assert evaluation(tiny, {"data": {"uri": "dataset://more"}}).spec["data"]["kind"] == "npz"
