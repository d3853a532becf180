"""How the tests of the server ask it, and the fronts they ask."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from serving import front, tensors

FRONTS = front.runnable()
# For what takes a server of its own, and is decided behind the fronts: the preferred one, unless all is run.
FRONT = [FRONTS[0], *(pytest.param(name, marks=pytest.mark.full) for name in FRONTS[1:])]

CODE = grpc.StatusCode

_METHODS = {
    "Predict": ("PredictionService", PredictRequest, PredictResponse),
    "Classify": ("PredictionService", ClassificationRequest, ClassificationResponse),
    "Regress": ("PredictionService", RegressionRequest, RegressionResponse),
    "MultiInference": ("PredictionService", MultiInferenceRequest, MultiInferenceResponse),
    "GetModelMetadata": ("PredictionService", GetModelMetadataRequest, GetModelMetadataResponse),
    "GetModelStatus": ("ModelService", GetModelStatusRequest, GetModelStatusResponse),
    "HandleReloadConfigRequest": ("ModelService", ReloadConfigRequest, ReloadConfigResponse),
}


class Calls:
    """A channel to a server's gRPC port, and every method that it has."""

    def __init__(self, address, options=()):
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1), *options]
        )

    def stub(self, method):
        service, _, response = _METHODS[method]
        return self.channel.unary_unary(
            f"/tensorflow.serving.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def call(self, method, request, timeout_s=20):
        return self.stub(method)(request, timeout=timeout_s)


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
