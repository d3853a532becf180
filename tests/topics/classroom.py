"""Examples through a real stack as a user sends them, each once, and what came of them."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np

from examples.data import WRITERS, file_of
from fitserve import Client, Job, Predictor
from tests.acceptance.stack import RunningStack, example

PLUGINS = Path(__file__).parents[2] / "deploy" / "plugins"


@dataclass(frozen=True)
class Outcome:
    """A job that succeeded, and what its version holds.

    `resolved` is the spec with all that was chosen for it, `weights` the arrays of the weights file by their
    paths, `inspected` what was said of the model before it was trained. `inputs` are as a request sends
    them: texts where a column holds texts, bytes where it holds files.
    """

    job: Job
    resolved: Mapping[str, Any]
    curves: list[dict[str, float]]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    weights: list[tuple[str, np.ndarray]]
    inspected: Mapping[str, Any]
    training_s: float

    @property
    def parameters(self) -> int:
        """The model's own: random states are whole numbers, optimizers and metrics lie beside the layers."""
        return sum(
            array.size
            for path, array in self.weights
            if array.dtype.kind == "f" and not re.search("optimizer|loss|metric", path)
        )

    @property
    def name(self) -> str:
        assert self.job.name is not None
        return self.job.name

    @property
    def artifacts(self) -> set[str]:
        assert self.job.result is not None
        return {artifact.name for artifact in self.job.result.artifacts}

    @property
    def exports(self) -> list[dict[str, Any]]:
        """What is on record of each artifact that was proven."""
        return [
            {
                "name": artifact["name"],
                "bytes": artifact["size_bytes"],
                "difference": artifact["parity"]["max_abs_diff"],
                "outputs": artifact["parity"]["outputs"],
                "latency_ms": artifact["latency_ms"],
                "load_ms": artifact["load_ms"],
            }
            for artifact in self.job.raw["result"]["artifacts"]
            if artifact.get("parity")
        ]

    @property
    def held_out(self) -> Mapping[str, float]:
        """Metrics on the test part, or those of validation after the last epoch."""
        last = {
            name.removeprefix("val_"): value
            for name, value in self.job.metrics["last"].items()
            if name.startswith("val_")
        }
        return self.job.metrics["test"] or last


class Classroom:
    """A stack with the sample plugins, and the data sets of the examples as far as they were needed."""

    def __init__(self, folder: Path, slots: str) -> None:
        self.folder = folder
        self.stack = RunningStack(folder / "home", plugins=f"{PLUGINS}/", slots=slots)
        self.stack.wait_until_up()
        self.client: Client = self.stack.client()
        self._uploaded: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}

    def close(self) -> None:
        self.client.close()
        self.stack.stop()

    def trained(self, which: str) -> Outcome:
        """Train an example, unless it was."""
        if which not in self._outcomes:
            self._outcomes[which] = self.train(example(which))
        return self._outcomes[which]

    def train(self, spec: dict[str, Any]) -> Outcome:
        """Upload what the spec needs, submit it, wait until its version answers, and fetch what it left."""
        self.upload(spec["data"])
        submitted = self.client.submit(spec)
        # Beside training, in the worker's child for short work.
        inspected = self._looked_at(spec)
        job = self.client.wait(submitted.id, timeout_s=240)
        assert job.status == "succeeded", (job.error, self.stack.logs())
        assert job.result is not None
        assert job.result.model is not None
        assert job.result.version is not None
        where = (job.result.model, job.result.version)
        version = self.client.version(*where, wait_s=30)
        assert version.serving.state == "AVAILABLE"
        samples = np.load(self.client.download(*where, "samples", self.folder / "samples.npz"))
        curves = self.client.download(*where, "curves", self.folder / "curves.csv").read_text()
        extra = self.stack.home / "store" / where[0] / str(where[1]) / "assets.extra"
        return Outcome(
            job=job,
            resolved=json.loads((extra / "spec.json").read_text()),
            curves=[
                {name: float(cell) for name, cell in row.items() if cell}
                for row in csv.DictReader(curves.splitlines())
            ],
            inputs=_under("inputs/", samples) | _files(_under("inputs_b64/", samples)),
            outputs=_under("outputs/", samples),
            weights=_arrays(self._artifact(job, "weights")),
            inspected=inspected,
            training_s=self._training_s(job),
        )

    def upload(self, data: Mapping[str, Any]) -> None:
        """Write and upload the data sets that the spec's data section names, unless they were."""
        for uri in uris_of(data):
            name = uri.removeprefix("dataset://")
            if name not in self._uploaded:
                path = self.folder / file_of(uri)
                WRITERS[path.name](path)
                self.upload_file(path, name)

    def upload_file(self, path: Path, name: str) -> None:
        """Upload a file under a name, which specs may then use."""
        uploaded = self.client.upload(path, name=name)
        assert uploaded.status == "ready", uploaded.error
        self._uploaded.add(name)

    def over_grpc(self, outcome: Outcome) -> dict[str, np.ndarray]:
        """Ask the served version for its samples."""
        with Predictor(self.stack.addresses.serving_grpc) as predictor:
            return dict(predictor.predict(outcome.name, outcome.inputs))

    def over_rest(self, outcome: Outcome) -> dict[str, np.ndarray]:
        """Ask the same as JSON: a missing number as NaN, a file in base64."""
        columns = {name: [_json(each) for each in rows] for name, rows in outcome.inputs.items()}
        answer = httpx.post(
            f"{self.stack.addresses.serving_rest}/v1/models/{outcome.name}:predict",
            content=json.dumps({"inputs": columns}),  # httpx's own JSON knows no NaN
            timeout=60,
        )
        assert answer.is_success, answer.text
        outputs = answer.json()["outputs"]
        named = outputs if len(outcome.outputs) > 1 else dict.fromkeys(outcome.outputs, outputs)
        return {name: np.array(rows) for name, rows in named.items()}

    def inspect(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask POST /v1/models:inspect; where no worker had the time for it, wait for the row's result."""
        return self._told("/v1/models:inspect", body)

    def artifact(self, outcome: Outcome, name: str) -> bytes:
        """Fetch an artifact of an outcome's version."""
        return self._artifact(outcome.job, name)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the API itself, for what the client has no words."""
        headers = {"Authorization": f"Bearer {self.stack.token}"}
        return httpx.request(method, f"{self.stack.addresses.api}{path}", headers=headers, timeout=60, **more)

    def _looked_at(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Ask what the model is; where columns are prepared, as wide as the data make them, in a dry run."""
        if "columns" not in spec["data"]:
            return self.inspect({"model": spec["model"], "data": spec["data"]})
        return dict(self._told("/v1/jobs:validate", spec)["model"])

    def _told(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.ask("POST", path, json=body)
        assert answer.is_success, answer.text
        if answer.status_code == httpx.codes.OK:
            return answer.json()
        row = self.client.wait(answer.json()["id"], timeout_s=120)
        assert row.status == "succeeded", row.error
        return dict(row.raw["result"])

    def _artifact(self, job: Job, name: str) -> bytes:
        assert job.result is not None
        path = f"/v1/models/{job.result.model}/versions/{job.result.version}/artifacts/{name}"
        return self.ask("GET", path).raise_for_status().content

    def _training_s(self, job: Job) -> float:
        """The seconds between the phases training and exporting."""
        events = self.ask("GET", f"/v1/jobs/{job.id}/events?limit=100").json()["data"]
        began: dict[str, datetime] = {}
        while events:
            for event in events:
                if event["event"] == "status" and event["data"].get("phase"):
                    began.setdefault(event["data"]["phase"], datetime.fromisoformat(event["created_at"]))
            events = self.ask("GET", f"/v1/jobs/{job.id}/events?limit=100&after={events[-1]['id']}").json()[
                "data"
            ]
        return (began["exporting"] - began["training"]).total_seconds()


def uris_of(data: Mapping[str, Any]) -> list[str]:
    """The data sets that a data section names: its own, then those of further parts."""
    return [each["uri"] for each in (data, data.get("validation"), data.get("test")) if each]


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}


def _files(encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bytes of the files in base64, in arrays of objects: numpy's own bytes lose zeros at their end."""
    return {
        name: np.array([base64.b64decode(each) for each in rows], object) for name, rows in encoded.items()
    }


def _json(value: Any) -> Any:  # a row of an array, or bytes
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value.tolist()


def _arrays(file: bytes) -> list[tuple[str, np.ndarray]]:
    """Every array of a weights file, in an order that doesn't depend on what its layers are called."""
    found: list[tuple[str, np.ndarray]] = []

    def keep(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((path, item[()]))

    with h5py.File(io.BytesIO(file), "r") as weights:
        weights.visititems(keep)
    return sorted(found, key=lambda each: (each[1].shape, each[1].tobytes()))
