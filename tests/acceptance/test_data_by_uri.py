"""A job whose data stay where the operator has them, with a set of its own for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fitserve import Client, InvalidInputError, Predictor
from tests.acceptance.stack import RunningStack, example


@pytest.mark.full
def test_a_job_trains_on_a_file_in_place_and_validates_on_a_set_of_its_own(
    client: Client, stack: RunningStack, data: Path
) -> None:
    lines = (data / "breast_cancer.csv").read_text().splitlines(keepends=True)
    (data / "first.csv").write_text("".join(lines[:400]))
    validation = data / "rest.csv"
    validation.write_text("".join([lines[0], *lines[400:]]))
    spec = example("breast_cancer", name="by-uri", fit={"epochs": 2}, export=[])
    spec["data"] = {name: value for name, value in spec["data"].items() if name != "split"}
    spec["data"] |= {
        "uri": f"file://{data}/first.csv",
        "validation": {"uri": f"file://{validation}"},
    }
    job = client.wait(client.submit(spec).id, timeout_s=240)
    assert job.status == "succeeded", (job.error, stack.logs())
    assert "val_loss" in job.metrics["last"]
    named = [job.raw["spec"]["data"]["uri"], job.raw["spec"]["data"]["validation"]["uri"]]
    assert named[0] == f"dataset://{job.raw['dataset_id']}"
    assert all(uri.startswith("dataset://ds_") for uri in named)
    first, rest = (client.dataset(uri.removeprefix("dataset://")) for uri in named)
    assert (first.schema["rows"], rest.schema["rows"]) == (399, 170)
    assert job.raw["dataset_digest"] == first.digest
    assert (data / "first.csv").exists()
    client.version("by-uri", 1, wait_s=30)
    with Predictor(stack.addresses.serving_grpc) as predictor:
        predictor.wait_until_available("by-uri", 1)
        rows = np.loadtxt(data / "rest.csv", delimiter=",", skiprows=1)[:, :-1]
        assert np.isfinite(predictor.predict("by-uri", rows[:5]).output).all()
    (data / "first.csv").write_text("".join(lines[:300]))
    job = client.wait(client.submit(spec | {"name": "by-uri-changed"}).id, timeout_s=120)
    assert (job.status, job.error.code) == ("failed", "invalid_data")
    assert "have changed" in job.error.detail


def test_what_the_operator_did_not_open_is_refused(client: Client, stack: RunningStack) -> None:
    with pytest.raises(InvalidInputError, match="FITSERVE_DATA_ROOTS"):
        client.upload(uri=f"file://{stack.home}/token")
