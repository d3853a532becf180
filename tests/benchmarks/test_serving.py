"""The benchmark of the model server runs, and checks what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.protos.inference_pb2 import ModelInferResponse
from benchmarks.wires import V2, Case, Json, TensorFlowServing

ROOT = Path(__file__).parents[2]
CASE = Case("m", "x", np.zeros((64, 3), np.float32), np.full((64, 2), 0.5, np.float32))


def reply_of(wire, rows, value):
    """A server's reply to a request, written by hand."""
    answer = np.full((rows, 2), value, np.float32)
    if isinstance(wire, Json):
        return json.dumps(answer.tolist()).encode()
    if isinstance(wire, V2):
        response = ModelInferResponse()
        response.outputs.add(name="y", datatype="FP32", shape=answer.shape)
        response.raw_output_contents.append(answer.tobytes())
        return response.SerializeToString()
    from fitserve import tensors
    from fitserve._protos import serving_pb2

    response = serving_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(tensors.encode(answer, "float32"))
    return response.SerializeToString()


@pytest.mark.parametrize(
    "wire", [TensorFlowServing(), V2(), Json(bare_row=False)], ids=lambda w: type(w).__name__
)
@pytest.mark.parametrize("rows", [1, 64])
def test_a_wrong_answer_ends_the_benchmark(wire, rows):
    wire.check(CASE, rows, reply_of(wire, rows, 0.5))
    with pytest.raises(SystemExit, match="answers wrongly"):
        wire.check(CASE, rows, reply_of(wire, rows, 0.6))


@pytest.mark.full
@pytest.mark.timeout(300)
def test_every_line_has_its_figure() -> None:
    few = ["--rounds", "1", "--seconds", "0.3", "--swaps", "1", "--model", "mlp"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", "--only", "echo", "--only", "tail", "--json", *few],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # a target may be missed
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(figure["target"] is not None for figure in figures) == 6
    assert all(figure["value"] > 0 for figure in figures)
