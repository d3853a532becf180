"""What the servers of `benchmarks.serving` are asked, and how their replies are read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from fitserve import tensors
from fitserve._protos import serving_pb2 as wire

TOLERANCE = 1e-4
"""ONNX and TensorFlow differed by 2e-7, one row and a batch by as much."""


@dataclass(frozen=True)
class Case:
    """A model and its rows: `x` float32 (64, ...), its own answers `y` float32 (64, classes)."""

    model: str
    input: str
    x: np.ndarray
    y: np.ndarray

    @staticmethod
    def read(folder: Path, model: str) -> Case:
        """Read what `benchmarks.serving_models` wrote."""
        with np.load(folder / f"{model}.npz") as arrays:
            return Case(model, str(arrays["input"]), arrays["x"], arrays["y"])


class Wire(ABC):
    """One protocol: the path that is asked, bodies, and the answer in a reply."""

    path: str
    grpc: bool

    @abstractmethod
    def body(self, case: Case, rows: int) -> bytes:
        """Return the request for the first rows."""

    @abstractmethod
    def answer(self, reply: bytes) -> np.ndarray:
        """Return the model's answer, float32 (rows, classes)."""

    def check(self, case: Case, rows: int, reply: bytes) -> None:
        """Compare a reply with the model's own answer.

        Raises:
            SystemExit: they differ.
        """
        answer = self.answer(reply)
        if answer.shape != case.y[:rows].shape or not np.allclose(answer, case.y[:rows], atol=TOLERANCE):
            raise SystemExit(f"{type(self).__name__} {case.model} answers wrongly. Received: {answer}")


class TensorFlowServing(Wire):
    """PredictionService/Predict, the rows as tensor_content."""

    path, grpc = "/tensorflow.serving.PredictionService/Predict", True

    def body(self, case: Case, rows: int) -> bytes:
        """Return a PredictRequest."""
        request = wire.PredictRequest()
        request.model_spec.name = case.model
        request.inputs[case.input].CopyFrom(tensors.encode(case.x[:rows], "float32"))
        return bytes(request.SerializeToString())

    def answer(self, reply: bytes) -> np.ndarray:
        """Read the only output of a PredictResponse."""
        (output,) = wire.PredictResponse.FromString(reply).outputs.values()
        return tensors.decode(output)


class V2(Wire):
    """The V2 inference protocol, the rows as fp32_contents, which MLServer reads without more settings."""

    path, grpc = "/inference.GRPCInferenceService/ModelInfer", True

    def body(self, case: Case, rows: int) -> bytes:
        """Return a ModelInferRequest."""
        request = ModelInferRequest(model_name=case.model)
        x = case.x[:rows]
        tensor = request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        tensor.contents.fp32_contents.extend(x.ravel().tolist())
        return bytes(request.SerializeToString())

    def answer(self, reply: bytes) -> np.ndarray:
        """Read the only output of a ModelInferResponse."""
        response = ModelInferResponse.FromString(reply)
        (output,) = response.outputs
        if response.raw_output_contents:
            values = np.frombuffer(response.raw_output_contents[0], np.float32)
        else:
            values = np.asarray(output.contents.fp32_contents, np.float32)
        return values.reshape(tuple(output.shape))


class Json(Wire):
    """POST /predict with {"x": ...}: one row bare, or a list of rows."""

    path, grpc = "/predict", False

    def __init__(self, *, bare_row: bool) -> None:
        self._bare_row = bare_row

    def body(self, case: Case, rows: int) -> bytes:
        """Return a JSON document."""
        x = case.x[0] if self._bare_row and rows == 1 else case.x[:rows]
        return json.dumps({"x": x.tolist()}).encode()

    def answer(self, reply: bytes) -> np.ndarray:
        """Read {"y": row} or rows."""
        document = json.loads(reply)
        answer = np.asarray(document["y"] if isinstance(document, dict) else document, np.float32)
        return answer[np.newaxis] if answer.ndim == 1 else answer
