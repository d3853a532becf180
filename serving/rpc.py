"""gRPC, bytes in and bytes out: what TensorFlow Serving's PredictionService and ModelService answer.

Service stubs are not used: the generated `*_service_pb2` modules of tensorflow-serving-api 2.20 don't import
with protobuf 7, and generic handlers need only the methods' paths.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import (
    ClassificationRequest,
    ClassificationResponse,
    ClassificationResult,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from serving import config_file, inference, tensors
from serving.dataplane import DataPlane, Target
from serving.errors import Code, ModelConfigError, RequestError
from serving.lifecycle import Lease
from serving.request_heads import MOST_HEADS, Head, RequestHeads
from serving.statuses import VersionStatus

_log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"
_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
_OUTPUTS = b"\x0a"  # PredictResponse.outputs (1), and the key of its entries (1)
_ENTRY_VALUE = b"\x12"  # the value of an entry (2)

# gRPC's numbers are google.rpc.Code's.
OK = 0


class Rpc:
    """The methods of one server by path."""

    def __init__(self, plane: DataPlane, *, as_content: bool = False) -> None:
        self._plane = plane
        self._as_content = as_content
        self._heads = RequestHeads()
        self._methods: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            _PREDICTION + "Predict": self._predict,
            _PREDICTION + "Classify": self._classify,
            _PREDICTION + "Regress": self._regress,
            _PREDICTION + "MultiInference": self._multi_inference,
            _PREDICTION + "GetModelMetadata": self._metadata,
            _MODEL + "GetModelStatus": self._status,
            _MODEL + "HandleReloadConfigRequest": self._reload,
        }

    async def call(self, path: str, body: bytes) -> bytes:
        """Return the serialized reply to a serialized request.

        Raises:
            RequestError: in every other case; what wasn't foreseen is INTERNAL, and logged here.
        """
        method = self._methods.get(path)
        if method is None:
            raise RequestError(Code.UNIMPLEMENTED, f"{path} is not implemented by this server")
        try:
            return await method(body)
        except DecodeError as error:
            raise RequestError(Code.INVALID_ARGUMENT, f"request of {path} doesn't parse: {error}") from error
        except RequestError:
            raise
        except Exception as error:
            _log.exception("call_failed path=%s", path)
            raise RequestError(Code.INTERNAL, f"{type(error).__name__} while answering {path}") from error

    async def _predict(self, body: bytes) -> bytes:
        if (known := self._heads.read(body)) is not None:
            head, inputs = known
        else:
            request = PredictRequest.FromString(body)
            head = _head(request)
        with self._plane.lease(head.target) as lease:
            plan = lease.servable.plan(head.signature_name, head.inputs, head.output_filter)
            if known is None:
                inputs = {name: tensors.decode(proto, name) for name, proto in request.inputs.items()}
                self._heads.learn(body, head, inputs)
            outputs = await self._plane.run(lease, plan, inputs)
        # Outputs are spliced in by hand: a third of a small call's time would go into building the message.
        reply = [_answered_by(lease.model, lease.number, plan.signature_name)]
        for name, output in zip(plan.outputs, outputs, strict=True):
            tensor = tensors.encode(output, as_content=self._as_content)
            entry = tensors.delimited(_OUTPUTS, name.encode()) + tensors.delimited(_ENTRY_VALUE, tensor)
            reply.append(tensors.delimited(_OUTPUTS, entry))
        return b"".join(reply)

    async def _classify(self, body: bytes) -> bytes:
        request = ClassificationRequest.FromString(body)
        _check_spec(request.HasField("model_spec"))
        return bytes((await classify(self._plane, _target(request.model_spec), request)).SerializeToString())

    async def _regress(self, body: bytes) -> bytes:
        request = RegressionRequest.FromString(body)
        _check_spec(request.HasField("model_spec"))
        return bytes((await regress(self._plane, _target(request.model_spec), request)).SerializeToString())

    async def _multi_inference(self, body: bytes) -> bytes:
        request = MultiInferenceRequest.FromString(body)
        spec = request.tasks[0].model_spec if request.tasks else ModelSpec()
        response = MultiInferenceResponse()
        with self._plane.lease(_target(spec)) as lease:
            asked = inference.tasks(lease.servable, request)
            for task, result in zip(
                asked, await _results(self._plane, lease, asked, request.input), strict=True
            ):
                added = response.results.add()
                added.model_spec.CopyFrom(_effective(spec.name, lease.number, task.plan.signature_name))
                if isinstance(result, ClassificationResult):
                    added.classification_result.CopyFrom(result)
                else:
                    added.regression_result.CopyFrom(result)
        return bytes(response.SerializeToString())

    async def _metadata(self, body: bytes) -> bytes:
        request = GetModelMetadataRequest.FromString(body)
        _check_spec(request.HasField("model_spec"))
        if not request.metadata_field:
            raise RequestError(
                Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise RequestError(Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        return bytes(metadata(self._plane, _target(request.model_spec)).SerializeToString())

    async def _status(self, body: bytes) -> bytes:
        request = GetModelStatusRequest.FromString(body)
        _check_spec(request.HasField("model_spec"))
        return bytes(status(self._plane, _target(request.model_spec)).SerializeToString())

    async def _reload(self, body: bytes) -> bytes:
        request = ReloadConfigRequest.FromString(body)
        if request.config.WhichOneof("config") != "model_config_list":
            raise RequestError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        try:
            settings = config_file.from_proto(request.config)
        except ModelConfigError as error:
            raise RequestError(Code(error.code), str(error)) from error
        await self._plane.reload(settings)
        # A refused reload is an error of the call, so a reply always says OK.
        response = ReloadConfigResponse()
        response.status.error_code = OK
        return bytes(response.SerializeToString())


async def classify(plane: DataPlane, meant: Target, request: ClassificationRequest) -> ClassificationResponse:
    """Answer a request to the version meant, whatever version the request itself names."""
    response = ClassificationResponse()
    with plane.lease(meant) as lease:
        task = inference.task(lease.servable, inference.CLASSIFY, request.model_spec.signature_name)
        (result,) = await _results(plane, lease, [task], request.input)
        response.model_spec.CopyFrom(_effective(meant.model, lease.number, task.plan.signature_name))
    response.result.CopyFrom(result)
    return response


async def regress(plane: DataPlane, meant: Target, request: RegressionRequest) -> RegressionResponse:
    """Answer a request to the version meant, whatever version the request itself names."""
    response = RegressionResponse()
    with plane.lease(meant) as lease:
        task = inference.task(lease.servable, inference.REGRESS, request.model_spec.signature_name)
        (result,) = await _results(plane, lease, [task], request.input)
        response.model_spec.CopyFrom(_effective(meant.model, lease.number, task.plan.signature_name))
    response.result.CopyFrom(result)
    return response


async def _results(
    plane: DataPlane, lease: Lease, tasks: Sequence[inference.Task], given: Input
) -> list[inference.Result]:
    examples = inference.examples(given)
    return [
        task.result(await plane.run(lease, task.plan, {inference.INPUTS: examples}), len(examples))
        for task in tasks
    ]


def metadata(plane: DataPlane, meant: Target) -> GetModelMetadataResponse:
    """Return the signatures of the version meant, and which version that is."""
    response = GetModelMetadataResponse()
    with plane.lease(meant) as lease:
        response.model_spec.CopyFrom(_effective(meant.model, lease.number, ""))
        signatures = SignatureDefMap(signature_def=lease.servable.signatures)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def status(plane: DataPlane, meant: Target) -> GetModelStatusResponse:
    """Return the states of the versions meant, newest first."""
    response = GetModelStatusResponse()
    for each in plane.status(meant):
        _add_status(response, each)
    return response


def _add_status(response: GetModelStatusResponse, version: VersionStatus) -> None:
    added = response.model_version_status.add(version=version.number, state=int(version.state))
    added.status.error_code = (version.code or Code.UNKNOWN).number if version.error else OK
    added.status.error_message = version.error


def _target(spec: ModelSpec) -> Target:
    match spec.WhichOneof("version_choice"):
        case "version":
            return Target(spec.name, number=spec.version.value)
        case "version_label":
            return Target(spec.name, label=spec.version_label)
        case _:
            return Target(spec.name)


def _head(request: PredictRequest) -> Head:
    _check_spec(request.HasField("model_spec"))
    spec = request.model_spec
    return Head(_target(spec), spec.signature_name, tuple(request.inputs), tuple(request.output_filter))


@lru_cache(MOST_HEADS)
def _answered_by(model: str, number: int, signature_name: str) -> bytes:
    """Return the part of a PredictResponse that tells who answered."""
    return bytes(PredictResponse(model_spec=_effective(model, number, signature_name)).SerializeToString())


def _effective(model: str, number: int, signature_name: str) -> ModelSpec:
    spec = ModelSpec(name=model, signature_name=signature_name)
    spec.version.value = number
    return spec


def _check_spec(present: bool) -> None:
    if not present:
        raise RequestError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
