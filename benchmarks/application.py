"""Where the microseconds of a call go: the model server's application alone, in this process, with no front.

`--profile` prints what cProfile saw, which slows small functions down more than large ones.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.report import Figure, parser, show
from benchmarks.wires import Case, TensorFlowServing
from serving import flags, tensors
from serving.assembly import Assembly
from serving.dataplane import Target

CALLS = 3200
HEADERS = [
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"grpc-python/1.85.1"),
]
LOADS = ((1, 1), (1, 32), (64, 8))


def main() -> int:
    """Serve the MLP in this process, and call it."""
    options = parser(__doc__, rounds=9)
    options.add_argument("--profile", action="store_true", help="what cProfile says of 32 calls at once")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fitserve-application-") as name:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.serving_models", name], check=True, capture_output=True
        )
        case = Case.read(Path(name), "mlp")
        given, _ = flags.parse(["--model_name=mlp", f"--model_base_path={Path(name, 'mlp')}"])
        assembly = Assembly(given)
        assembly.start()
        figures = asyncio.run(_measured(assembly, case, chosen.rounds, profile=chosen.profile))
        assembly.stop(5.0)
    return show("The application alone", figures, as_json=chosen.json)


async def _measured(assembly: Assembly, case: Case, rounds: int, *, profile: bool) -> list[Figure]:
    figures = []
    for rows, at_once in LOADS:
        message = TensorFlowServing().body(case, rows)
        body = b"\0" + len(message).to_bytes(4) + message
        await _calls(assembly, body, at_once)
        took = [await _calls(assembly, body, at_once) for _ in range(rounds)]
        figures.append(Figure.of(f"a call: {rows} rows, {at_once} at once", took, "us"))
        if profile and at_once == 32:
            with cProfile.Profile() as seen:
                await _calls(assembly, body, at_once)
            pstats.Stats(seen).sort_stats("tottime").print_stats(25)
    with assembly.plane.lease(Target("mlp")) as lease:
        plan = lease.servable.plan("", [case.input], ())
        for rows in (1, 32, 64, 256):
            inputs = {case.input: np.resize(case.x, (rows, case.x.shape[1]))}
            took = [_timed(partial(lease.servable.run, plan, inputs)) for _ in range(rounds)]
            figures.append(Figure.of(f"TensorFlow's part: {rows} rows", took, "us"))
        (output,) = lease.servable.run(plan, {case.input: case.x[:1]})
    figures.append(Figure.of("a tensor written", [_timed(partial(tensors.encode, output))], "us"))
    return figures


async def _calls(assembly: Assembly, body: bytes, at_once: int) -> float:
    """Return the microseconds of a call, many of which come together."""
    began = time.perf_counter()
    for _ in range(CALLS // at_once):
        await asyncio.gather(*[_call(assembly, body) for _ in range(at_once)])
    return (time.perf_counter() - began) / CALLS * 1e6


async def _call(assembly: Assembly, body: bytes) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - a message of ASGI
        sent.append(message)

    path = TensorFlowServing.path
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": HEADERS}
    await assembly.application({**scope, "client": ("127.0.0.1", 1)}, receive, send)
    if sent[-1]["headers"][0] != (b"grpc-status", b"0"):
        raise SystemExit(f"a call failed: {sent}")


def _timed(work: Callable[[], object]) -> float:
    """Return the median of many calls in microseconds."""
    took = []
    for _ in range(500):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e6)
    return float(np.median(took))


if __name__ == "__main__":
    raise SystemExit(main())
