"""`fitserve demo`: the whole way once, on real data, with a check at every station.

It talks to the stack as any user would, over HTTP and gRPC, through the client.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

import examples
from examples.data import write_digits
from fitserve import Client, Job, ModelVersion, Predictor
from fitserve.progress import watch_job
from service.processes import past_proxies
from service.settings import Settings
from service.up import Stack, free_addresses

SPEC = Path(examples.__file__).parent / "digits.json"
LEAST_ACCURACY = 0.97
FLOAT_TOLERANCE = 1e-5
INT8_ACCURACY_LOSS = 0.02
AVAILABLE_WITHIN_S = 30.0


@dataclass
class Checks:
    """What the demo promises, each held or not."""

    console: Console
    broken: list[str] = field(default_factory=list)

    def expect(self, what: str, holds: bool) -> None:
        """Say whether it held."""
        self.console.print(
            f"  {'[green]ok[/green]  ' if holds else '[red]FAIL[/red]'} {what}", soft_wrap=True
        )
        if not holds:
            self.broken.append(what)


def run_demo(console: Console, *, keep: bool) -> int:
    """Run it; 0 if everything held, else 1."""
    home = Path(tempfile.mkdtemp(prefix="fitserve-demo-"))
    began = time.monotonic()
    checks = Checks(console)
    try:
        with _stack(home, console) as stack:
            token = stack.settings.token_path.read_text().strip()
            with Client(stack.addresses.api, token) as client:
                _walk(client, stack, home, checks)
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
    console.print(
        f"[bold]{time.monotonic() - began:.0f} s from an empty folder to a served, proven version.[/bold]"
    )
    if keep:
        console.print(f"kept in {home}", soft_wrap=True)
    if checks.broken:
        console.print(f"[red]{len(checks.broken)} of the promises did not hold.[/red]")
    return 1 if checks.broken else 0


@contextmanager
def _stack(home: Path, console: Console) -> Iterator[Stack]:
    console.rule("start the stack")
    addresses = free_addresses()
    os.environ.update(past_proxies(addresses.host, os.environ))  # the client asks our own ports, too
    stack = Stack(
        Settings(home=home), addresses, lambda text: console.print(text, soft_wrap=True, markup=False)
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
        console.print("everything that was started is stopped")


def _walk(client: Client, stack: Stack, home: Path, checks: Checks) -> None:
    console = checks.console
    console.rule("upload and submit")
    write_digits(home / "digits.npz")
    dataset = client.upload(home / "digits.npz", name="digits")
    console.print(f"data set {dataset.id}: digits.npz, {dataset.size_bytes} bytes, {dataset.status}")
    job = client.submit(json.loads(SPEC.read_text()))
    console.print(f"job {job.id}: {job.status}")
    job = watch_job(client, job.id, console=console, timeout_s=300)
    checks.expect(f"job {job.id} {job.status}", job.status == "succeeded")
    if job.result is None or job.result.model is None or job.result.version is None:
        console.print(job.error)
        return
    console.rule("serve and predict")
    version = client.version(job.result.model, job.result.version, wait_s=AVAILABLE_WITHIN_S)
    state = version.serving.state if version.serving else "?"
    checks.expect(f"{version.model} version {version.version} is {state} in serving", state == "AVAILABLE")
    _predict(client, stack, home, version, checks)
    console.rule("what came out")
    _judge(job, checks)
    console.print(_table(job, version))
    urls = {**version.raw["urls"], "artifacts": stack.addresses.api + version.raw["urls"]["artifacts"]}
    for name, url in urls.items():
        console.print(f"{name:<15} {url}", soft_wrap=True)


def _predict(client: Client, stack: Stack, home: Path, version: ModelVersion, checks: Checks) -> None:
    """Ask serving over gRPC and REST for rows whose answers the trained model gave when it was exported."""
    client.download(version.model, version.version, "samples", home / "samples.npz")
    with np.load(home / "samples.npz") as samples:
        inputs = {
            name.removeprefix("inputs/"): samples[name] for name in samples if name.startswith("inputs/")
        }
        expected = next(samples[name] for name in samples if name.startswith("outputs/"))
    with Predictor(stack.addresses.serving_grpc) as predictor:
        answer = predictor.predict(version.model, inputs, version=version.version)
    difference = float(np.max(np.abs(answer.output - expected)))
    checks.expect(
        f"gRPC answers equal Keras's: largest difference {difference:.1e}", difference <= FLOAT_TOLERANCE
    )
    url = f"{stack.addresses.serving_rest}/v1/models/{version.model}/versions/{version.version}:predict"
    body = {"inputs": {name: values.tolist() for name, values in inputs.items()}}
    outputs = httpx.post(url, json=body, timeout=10, trust_env=False).raise_for_status().json()["outputs"]
    difference = float(np.max(np.abs(np.asarray(outputs) - expected)))
    checks.expect(
        f"REST answers equal Keras's: largest difference {difference:.1e}", difference <= FLOAT_TOLERANCE
    )


def _judge(job: Job, checks: Checks) -> None:
    accuracy = _accuracy(job)
    checks.expect(f"test accuracy {accuracy:.4f} is at least {LEAST_ACCURACY}", accuracy >= LEAST_ACCURACY)
    for artifact in _artifacts(job):
        parity = artifact.get("parity")
        if not parity:
            continue
        name = artifact["name"]
        if artifact["options"].get("quantization"):
            delta = _accuracy_delta(parity)
            said = f"{name}: test accuracy within {INT8_ACCURACY_LOSS} of float ({delta:.4f})"
            checks.expect(said, delta <= INT8_ACCURACY_LOSS)
        else:
            largest = parity["max_abs_diff"]
            said = f"{name}: within {FLOAT_TOLERANCE:.0e} of Keras ({largest:.1e})"
            checks.expect(said, largest <= FLOAT_TOLERANCE)


def _table(job: Job, version: ModelVersion) -> Table:
    table = Table(title=f"{version.model} version {version.version}, test accuracy {_accuracy(job):.4f}")
    for column in ("artifact", "size", "max difference", "ms, 1 row", "ms, 64 rows"):
        table.add_column(column, justify="left" if column == "artifact" else "right", no_wrap=True)
    for artifact in _artifacts(job):
        parity, latency = artifact.get("parity"), artifact.get("latency_ms") or {}
        table.add_row(
            artifact["name"],
            f"{artifact['size_bytes'] / 1024:.1f} KiB",
            f"{parity['max_abs_diff']:.1e}" if parity else "-",
            *(f"{latency[rows]['median']:.3f}" if rows in latency else "-" for rows in ("1", "64")),
        )
    return table


def _artifacts(job: Job) -> list[Mapping[str, Any]]:
    artifacts: list[Mapping[str, Any]] = job.raw["result"]["artifacts"]
    return artifacts


def _accuracy(job: Job) -> float:
    return float(job.raw["metrics"]["test"]["accuracy"])


def _accuracy_delta(parity: Mapping[str, Any]) -> float:
    metrics = [output["metric"] for output in parity["outputs"].values()]
    return max(abs(float(metric["model"]) - float(metric["artifact"])) for metric in metrics)
