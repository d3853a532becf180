"""BentoML over onnxruntime: POST /predict {"x": rows} gives rows. BENCHMARK_ONNX names the model's file."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Onnx:
    """Rows of concurrent requests go together."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENCHMARK_ONNX"], options)
        self._input = self._session.get_inputs()[0].name

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run the model."""
        return np.asarray(self._session.run(None, {self._input: x.astype(np.float32)})[0])
