"""Examples through a real stack as a user sends them, each once, and what came of them."""

from __future__ import annotations

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

from examples.data import WRITERS
from fitserve import Client, Job
from tests.acceptance.stack import RunningStack, example

PLUGINS = Path(__file__).parents[2] / "deploy" / "plugins"


@dataclass(frozen=True)
class Outcome:
    """A job that succeeded, and what its version holds.

    `resolved` is the spec with all that was chosen for it, `weights` the arrays of the weights file by their
    paths, `inspected` what was said of the model before it was trained.
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
        self.upload(spec)
        submitted = self.client.submit(spec)
        # Beside training, in the worker's child for short work.
        inspected = self.inspect({"model": spec["model"], "data": spec["data"]})
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
            inputs=_under("inputs/", samples),
            outputs=_under("outputs/", samples),
            weights=_arrays(self._artifact(job, "weights")),
            inspected=inspected,
            training_s=self._training_s(job),
        )

    def upload(self, spec: Mapping[str, Any]) -> None:
        """Write and upload the data set that the spec names, unless it was."""
        name = spec["data"]["uri"].removeprefix("dataset://")
        if name in self._uploaded:
            return
        path = self.folder / f"{name.replace('-', '_')}.{spec['data']['kind']}"
        WRITERS[path.name](path)
        assert self.client.upload(path, name=name).status == "ready"
        self._uploaded.add(name)

    def inspect(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask POST /v1/models:inspect; where no worker had the time for it, wait for the row's result."""
        answer = self.ask("POST", "/v1/models:inspect", json=body)
        assert answer.is_success, answer.text
        if answer.status_code == httpx.codes.OK:
            return answer.json()
        row = self.client.wait(answer.json()["id"], timeout_s=120)
        assert row.status == "succeeded", row.error
        return dict(row.raw["result"])

    def artifact(self, outcome: Outcome, name: str) -> bytes:
        """Fetch an artifact of an outcome's version."""
        return self._artifact(outcome.job, name)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the API itself, for what the client has no words."""
        headers = {"Authorization": f"Bearer {self.stack.token}"}
        return httpx.request(method, f"{self.stack.addresses.api}{path}", headers=headers, timeout=60, **more)

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


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}


def _arrays(file: bytes) -> list[tuple[str, np.ndarray]]:
    """Every array of a weights file, in an order that doesn't depend on what its layers are called."""
    found: list[tuple[str, np.ndarray]] = []

    def keep(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((path, item[()]))

    with h5py.File(io.BytesIO(file), "r") as weights:
        weights.visititems(keep)
    return sorted(found, key=lambda each: (each[1].shape, each[1].tobytes()))
