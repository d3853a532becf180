"""LitServe over onnxruntime, `python litserve_server.py MODEL.onnx PORT`.

POST /predict {"x": row} gives {"y": row}.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Onnx(litserve.LitAPI):
    """One row a request; LitServe puts requests into batches."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model, on one thread as small models like it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(sys.argv[1], options)
        self._input = self._session.get_inputs()[0].name

    # Without an annotation LitServe gives the JSON document.
    def decode_request(self, request) -> np.ndarray:  # noqa: ANN001
        """Read a row."""
        return np.asarray(request["x"], np.float32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Put rows together."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run the model."""
        return np.asarray(self._session.run(None, {self._input: x})[0])

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Take rows apart."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Write a row."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = Onnx(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
