"""Plugins as the API knows them: by what workers say they have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.data import keep
from service.errors import SpecRefusedError
from service.jobs import JobSpec, Kind, NewJob, Status
from service.kinds.train import resolved
from service.plugins import described
from service.protocol import Order
from service.records import Records
from service.settings import Settings
from service.submission import new_training_job
from tests.acceptance.stack import wait_for
from tests.service.workbench import put_tiny, working

SAMPLES = Path(__file__).parents[2] / "deploy" / "plugins"
SCHEMA = {
    "type": "object",
    "properties": {"units": {"type": "integer", "minimum": 1}, "rate": {"type": "number"}},
    "required": ["units"],
}


def body(**model: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"kind": "plugin", **model},
        "data": {"kind": "csv", "uri": "dataset://tiny", "features": ["a", "b"]},
    }


def faults(records: Records, **model: Any) -> dict[str, str]:
    with pytest.raises(SpecRefusedError) as caught:
        new_training_job(body(**model), records)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


@pytest.fixture
def manned(own_records: Records) -> Records:
    put_tiny(own_records)
    own_records.workers.seen("w1", {"plugins": {"towers": {"schema": SCHEMA}}})
    own_records.workers.seen("w2", {"plugins": {}})
    return own_records


def test_a_plugin_that_a_worker_has_is_taken_with_arguments_that_fit(manned: Records) -> None:
    assert new_training_job(body(name="towers", args={"units": 3}), manned).kind is Kind.TRAIN


def test_a_plugin_that_no_worker_has_is_refused_with_those_there_are(manned: Records) -> None:
    assert faults(manned, name="tower") == {"/model/name": "no worker has a plugin 'tower'; there are towers"}


def test_every_argument_that_does_not_fit_is_told_at_its_place(manned: Records) -> None:
    found = faults(manned, name="towers", args={"units": 0, "rate": "high"})
    assert found == {
        "/model/args/units": "0 is less than the minimum of 1",
        "/model/args/rate": "'high' is not of type 'number'",
    }
    assert faults(manned, name="towers") == {"/model/args": "'units' is a required property"}


def test_without_a_worker_the_job_itself_will_tell(own_records: Records) -> None:
    put_tiny(own_records)
    assert new_training_job(body(name="anything"), own_records).kind is Kind.TRAIN


def test_a_worker_without_plugins_says_what_to_set(own_records: Records) -> None:
    put_tiny(own_records)
    own_records.workers.seen("w", {"slots": ["cpu"]})
    assert "FITSERVE_PLUGINS" in faults(own_records, name="towers")["/model/name"]


def test_plugins_are_described_without_being_imported_here() -> None:
    found = described(str(SAMPLES))
    assert found["gan"]["schema"]["required"] == ["features"]
    assert described("") == {}


def test_plugins_that_can_not_be_loaded_leave_the_worker_without(tmp_path: Path) -> None:
    assert described(f"{tmp_path}/nowhere/") == {}
    assert described("no.such.module") == {}


def test_a_name_that_is_no_text_is_refused_as_well(manned: Records) -> None:
    assert "/model/name" in faults(manned, name=["towers"])


def test_a_spec_without_compile_is_resolved_too() -> None:
    """A plugin may compile its model itself."""
    spec = body(name="gan")
    order = Order("job_1", "train", 1, 1, spec, "tiny", 7, "", None, "/a", "/w", 0.0, {})
    found = resolved(order, SimpleNamespace(steps_per_execution=4))
    assert (found["seed"], found["compile"]) == (7, {"steps_per_execution": 4})
    JobSpec.model_validate(found)


@pytest.mark.full
def test_a_gan_goes_from_its_spec_to_a_version(local: Settings, own_records: Records, tmp_path: Path) -> None:
    """Two optimizers, no label and no `compile`, through a worker and its children."""
    data = tmp_path / "rows.csv"
    rows = [f"{n % 7},{n % 5}" for n in range(64)]
    data.write_text("\n".join(["a,b", *rows]))
    with data.open("rb") as file:
        stored = keep(local.data_root, iter([file.read()]), max_bytes=1 << 20)
    own_records.datasets.create(
        dataset_id="ds_rows", name="rows", digest=stored.digest, size_bytes=1, filename="rows.csv",
        ingest=NewJob(kind=Kind.INGEST, spec={"filename": "rows.csv"}, dataset_digest=stored.digest),
    )  # fmt: skip
    spec = body(name="gan", args={"features": 2, "units": 4})
    spec["data"] |= {"uri": "dataset://rows"}
    with working(local.model_copy(update={"plugins": f"{SAMPLES}/"})):
        wait_for(lambda: own_records.datasets.find("rows").status == "ready", 60)
        job = own_records.jobs.create(new_training_job(spec, own_records))
        wait_for(lambda: own_records.jobs.get(job.id).status.is_terminal, 120)
    ended = own_records.jobs.get(job.id)
    assert ended.status is Status.SUCCEEDED, ended.error
