"""A converter that crashes, hangs, grows or tells lies: the job fails by name, and nothing of it stays."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.jobs import Job, Status
from service.kind import Site
from service.settings import Settings
from service.submission import new_training_job
from tests.service.test_inline import DATA
from tests.service.workbench import CPU, SPEC, claim, found, supervise

MARK = "PYTHONBROKEN"  # the child inherits what begins with PYTHON

# Python imports it in every process; only the one that converts is concerned.
SITE = """\
import os, sys
if "exporter.child" in sys.orig_argv:
    import exporter.formats.onnx as format_
    convert = format_.convert
    def broken(saved_model, destination, options, representative):
{does}
    format_.convert = broken
"""
CRASH = "os.kill(os.getpid(), 11)"
HANG = "import ctypes; ctypes.PyDLL(None).pause()  # in native code that keeps the interpreter's lock"
GROW = "held = bytearray(b'x') * 3_000_000_000; import time; time.sleep(60)"
PERTURB = """\
recipe = convert(saved_model, destination, options, representative)
import onnx, numpy as np
model = onnx.load(destination)
weight = next(each for each in model.graph.initializer if len(each.dims) == 2)
moved = onnx.numpy_helper.to_array(weight) + np.float32(1e-3)
weight.CopyFrom(onnx.numpy_helper.from_array(moved, weight.name))
onnx.save(model, destination)
return recipe
"""


@pytest.mark.parametrize(
    ("does", "code", "detail"),
    [
        (CRASH, "export_failed", "export 'onnx' failed: convert onnx: the converter process died of SIGSEGV"),
        pytest.param(
            HANG,
            "export_failed",
            "export 'onnx' failed: convert onnx: no answer from the converter within 15 s",
            marks=pytest.mark.full,
        ),
        pytest.param(
            GROW,
            "export_failed",
            r"export 'onnx' failed: convert onnx: the converter held [\d,]+ bytes of memory",
            marks=pytest.mark.full,
        ),
        pytest.param(
            PERTURB,
            "export_mismatch",
            r"export 'onnx' does not answer like the trained model: output 'output_0', row \d+: "
            r"the largest difference is 0\.0\d+, allowed there",
            marks=pytest.mark.full,
        ),
    ],
    ids=["crashes", "hangs", "grows", "perturbs a weight"],
)
def test_a_broken_converter_fails_its_job_and_leaves_nothing(
    here: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str, code: str, detail: str
) -> None:
    broken(monkeypatch, tmp_path, does)
    # Room for TensorFlow twice, and not for what grows.
    ended = run(here, limits={"memory_bytes": 3_000_000_000} if does is GROW else {})
    assert ended.status is Status.FAILED
    assert ended.error is not None
    assert ended.error["code"] == code
    assert re.match(detail, ended.error["detail"])
    assert ended.attempt == 1
    assert here.store.versions("tiny") == []
    assert not [path for path in here.store.root.rglob("*") if path.is_file()]
    assert not left()


@pytest.mark.full
def test_an_optional_artifact_of_a_broken_converter_is_left_out(
    here: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken(monkeypatch, tmp_path, CRASH)
    ended = run(here, optional=True)
    assert ended.status is Status.SUCCEEDED, ended.error
    assert here.store.versions("tiny") == [1]
    names = [artifact["name"] for artifact in here.store.manifest("tiny", 1).artifacts]
    assert "saved_model" in names
    assert "onnx" not in names
    told = [event.data.get("message", "") for event in here.records.jobs.events(ended.id)]
    assert any("onnx was left out: export 'onnx' failed" in message for message in told)
    assert not left()


def broken(monkeypatch: pytest.MonkeyPatch, folder: Path, does: str) -> None:
    lines = "".join(f"        {line}\n" for line in does.splitlines())
    (folder / "sitecustomize.py").write_text(SITE.format(does=lines))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(MARK, str(folder))


def run(here: Site, *, limits: dict[str, Any] | None = None, optional: bool = False) -> Job:
    """One attempt of a job, by a real child."""
    body = {
        **SPEC,
        "data": DATA,
        "fit": {"epochs": 1},
        "export": [{"format": "onnx", "optional": optional}],
        "limits": limits or {},
    }
    quick = Settings.model_validate({**here.settings.model_dump(), "export_s": 15})
    job = here.records.jobs.create(new_training_job(body, here.records))
    supervise(claim(here.records), Site(quick, here.records, here.store), CPU)
    return found(here, job)


def left() -> list[int]:
    """Processes that the job has left."""
    mine = os.environ[MARK]
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mine:
                processes.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return processes
