"""Formats that a worker lacks a program for: told in a dry run and by the worker, refused before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.entries import read_entries
from exporter.errors import ExportFailedError
from service.kinds import export, train, validate
from service.protocol import Order
from service.queue import Bell, celery_app
from service.settings import Settings
from service.worker import Worker
from tests.service.test_train import Kept
from tests.service.workbench import DIGEST, SPEC
from trainer.errors import DataUnreachableError


@pytest.fixture
def without_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where TensorFlow.js has nothing to run in."""
    monkeypatch.setenv("PATH", str(tmp_path))


def order(tmp_path: Path, **spec: object) -> Order:
    """A job on data that aren't there: whoever gets that far fails by it."""
    return Order(
        job_id="job",
        kind="of the test",
        attempt=1,
        token=1,
        spec=spec,
        name="tiny",
        seed=1,
        spec_digest=DIGEST,
        dataset_digest=DIGEST,
        attempt_folder=str(tmp_path),
        work_folder=str(tmp_path),
        leave_at=0.0,
        details={"export_s": 600.0, "signature": None},
    )


@pytest.mark.usefixtures("without_node")
def test_a_dry_run_says_what_to_install() -> None:
    told = [validate.feasibility(entry) for entry in read_entries([{"format": "onnx"}, {"format": "tfjs"}])]
    node = "node (install Node.js 18 or newer)"
    assert told == [
        {"name": "onnx", "format": "onnx", "missing": [], "feasible": True, "reason": None},
        {"name": "tfjs", "format": "tfjs", "missing": [node], "feasible": False, "reason": node},
    ]


@pytest.mark.usefixtures("without_node")
def test_a_job_that_asks_for_it_fails_before_its_data_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(
        ExportFailedError, match="'tfjs' failed: the format tfjs can't be made here"
    ) as caught:
        train.run(order(tmp_path, **SPEC, export=[{"format": "tfjs"}]), Kept())
    assert caught.value.code == "export_failed"
    with pytest.raises(DataUnreachableError):
        train.run(order(tmp_path, **SPEC, export=[{"format": "tfjs", "optional": True}]), Kept())


@pytest.mark.usefixtures("without_node")
def test_adding_it_to_a_version_fails_before_the_model_is_built(tmp_path: Path) -> None:
    spec = {"model": "tiny", "version": 1, "data": SPEC["data"], "seed": 1}
    with pytest.raises(ExportFailedError, match="'tfjs' failed: the format tfjs can't be made here"):
        export.run(order(tmp_path, **spec, export=[{"format": "tfjs"}]), Kept())


def test_a_worker_lists_the_formats_that_it_can_make(
    local: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(local, Bell(celery_app(local.effective_broker_url)))
    feasible = worker._capabilities()["formats"]
    monkeypatch.setenv("PATH", "")
    assert {*feasible} - {*worker._capabilities()["formats"]} == {"tfjs"}
