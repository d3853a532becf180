"""A job on each kind of data, from the upload to a version, against real processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fitserve import Client
from tests.trainer.sources.written import Written, write
from trainer.source import sources

pytestmark = pytest.mark.full

ROWS = 240


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


def digest_of(written: Written) -> str:
    """The file's, or that of the canonical JSON of the rows in the spec."""
    if written.file is not None:
        content = written.file.read_bytes()
    else:
        content = json.dumps(written.data["rows"], sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("kind", sources())
def test_a_job_on_data_of_each_kind_ends_as_a_version(kind: str, client: Client, tmp_path: Path) -> None:
    written = write(kind, tmp_path, ROWS)
    data = {"kind": kind, **written.data, "split": {"by": "stratified", "fractions": [0.6, 0.2, 0.2]}}
    dataset = None
    if written.file is not None:
        dataset = client.upload(written.file, name=f"of-{kind}")
        assert (dataset.status, dataset.kind) == ("ready", kind), dataset.error
        assert dataset.schema is not None
        assert dataset.schema["rows"] == ROWS
        data["uri"] = f"dataset://of-{kind}"
    pixels = [layer("Rescaling", scale=1 / 255), layer("Flatten")] if kind == "image_folder" else []
    job = client.submit(
        {
            "name": f"of-{kind.replace('_', '-')}",
            "model": {
                "kind": "sequential",
                "layers": [*pixels, layer("Dense", units=16, activation="relu"), layer("Dense", units=2)],
            },
            "data": data,
            "compile": {
                "optimizer": layer("Adam", learning_rate=0.01),
                "loss": layer("SparseCategoricalCrossentropy", from_logits=True),
                "metrics": ["accuracy"],
            },
            "fit": {"epochs": 8},
            "seed": 3,
        }
    )
    ended = client.wait(job.id, timeout_s=180)
    assert ended.status == "succeeded", ended.error
    assert ended.raw["result"]["version"] == 1
    assert [version.version for version in client.versions(f"of-{kind.replace('_', '-')}")] == [1]
    assert ended.raw["dataset_digest"] == digest_of(written)
    assert dataset is None or dataset.digest == digest_of(written)
    # Zeros and ones are easy; half is chance.
    assert ended.raw["metrics"]["test"]["accuracy"] >= 0.9
