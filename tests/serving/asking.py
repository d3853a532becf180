"""How the tests of the server ask it, and the fronts they ask."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving import front, tensors

FRONTS = front.runnable()

CODE = grpc.StatusCode


def predict_request(model, signature="", version=None, label=None, output_filter=(), **inputs):
    request = PredictRequest(output_filter=output_filter)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].ParseFromString(tensors.encode(np.asarray(value), as_content=True))
    return request


def ones(rows=1):
    return np.ones((rows, 3), np.float32)


def outputs(response):
    return {name: tensors.decode(proto, name) for name, proto in response.outputs.items()}


def refusal(server, method, request):
    with pytest.raises(grpc.RpcError) as caught:
        server.call(method, request)
    return caught.value.code(), caught.value.details()


def leave(server, number, within_s):
    """Ask a server to leave; it has to do so in time, with status 0, and without a process left behind."""
    family = server.family()
    assert server.stop(number) < within_s
    assert server.process.returncode == 0, server.log.read_text()
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
