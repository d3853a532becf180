"""Predictions over gRPC: TensorFlow Serving's wire, without TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import grpc
from google.protobuf.message import Message

from fitserve import settings, tensors
from fitserve._protos import serving_pb2 as wire
from fitserve.errors import (
    ConflictError,
    DeadlineExceededError,
    FitserveError,
    InvalidInputError,
    LoadFailedError,
    NotFoundError,
    OverloadedError,
    ServerFailedError,
    UnauthorizedError,
    UnavailableError,
)
from fitserve.prediction import Prediction
from fitserve.signatures import Inputs, ModelMetadata

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)

_ERROR_BY_CODE: Mapping[grpc.StatusCode, type[FitserveError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInputError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInputError,
    # TF Serving's code for a signature that isn't there.
    grpc.StatusCode.FAILED_PRECONDITION: InvalidInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthorizedError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthorizedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}


class VersionState(StrEnum):
    """Where serving has a version in its life."""

    UNKNOWN = "UNKNOWN"
    START = "START"  # seen in the store
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"  # answers predictions
    UNLOADING = "UNLOADING"
    END = "END"  # unloaded, or its load failed: then there is an error


@dataclass(frozen=True)
class VersionStatus:
    """One version as serving sees it; `error` is the text of a failed load."""

    version: int
    state: VersionState
    error: str | None


class _Servable(NamedTuple):
    """What is asked: a model's latest version, one version, or the one behind a label."""

    model: str
    version: int | None
    label: str | None

    def to_proto(self) -> wire.ModelSpec:
        if self.version is not None and self.label is not None:
            raise InvalidInputError(
                f"give a version or a label, not both. Received: {self.version} and {self.label!r}"
            )
        spec = wire.ModelSpec(name=self.model)
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec


class _Asked(NamedTuple):
    inputs: Inputs
    signature: str
    outputs: list[str]


class Predictor:
    """A connection to one TensorFlow Serving address: `host:port` or `unix:/path`; threads may share it.

    Without an address: FITSERVE_SERVING_GRPC, then what `fitserve up` wrote down, then 127.0.0.1:8500.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or settings.load().serving_grpc
        options: list[tuple[str, int]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        if settings.is_loopback(self.address.rpartition(":")[0].strip("[]")):
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(self.address, options=options)
        self._predict = self._method("PredictionService/Predict", wire.PredictRequest, wire.PredictResponse)
        self._metadata = self._method(
            "PredictionService/GetModelMetadata", wire.GetModelMetadataRequest, wire.GetModelMetadataResponse
        )
        self._status = self._method(
            "ModelService/GetModelStatus", wire.GetModelStatusRequest, wire.GetModelStatusResponse
        )
        self._known: dict[_Servable, ModelMetadata] = {}

    def predict(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
        outputs: Iterable[str] | None = None,
        timeout_s: float = 10.0,
    ) -> Prediction:
        """Ask the model; by default its latest version.

        `inputs` is one array (or list) for a model with one input, else a mapping of names to arrays, or a
        list of rows, each a mapping of names to values; each gets the dtype that the signature wants. None,
        and what a row lacks, is a missing value: NaN for floats, "" for texts. `outputs` names the outputs
        wanted, all by default. The first call asks the server for the signature too; `timeout_s` covers both.

        Raises:
            InvalidInputError: names, dtypes or shapes don't fit the signature; told before sending where
                possible.
            NotFoundError: no such model, version or label.
            UnavailableError: nothing answers at the address.
            DeadlineExceededError: no answer within timeout_s.
        """
        deadline = time.monotonic() + timeout_s
        servable = _Servable(model, version, label)
        asked = _Asked(inputs, signature, [] if outputs is None else list(outputs))
        known = self._known.get(servable)
        if known is not None:
            # Behind a moving version the signature may have changed: only a fresh one may refuse.
            try:
                return self._ask(servable, known, asked, deadline)
            except InvalidInputError:
                self._known.pop(servable, None)
        fresh = self.metadata(model, version=version, label=label, timeout_s=_left(deadline))
        self._known[servable] = fresh
        return self._ask(servable, fresh, asked, deadline)

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout_s: float = 10.0
    ) -> ModelMetadata:
        """Return the model's signatures: names, dtypes and shapes of what it takes and gives."""
        request = wire.GetModelMetadataRequest(
            model_spec=_Servable(model, version, label).to_proto(), metadata_field=["signature_def"]
        )
        reply = self._call(self._metadata, request, timeout_s)
        if "signature_def" not in reply.metadata:
            raise ServerFailedError(f"{self.address} told no signatures of model {model}")
        return ModelMetadata.of(model, _version_of(reply.model_spec), reply.metadata["signature_def"].value)

    def status(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout_s: float = 10.0
    ) -> list[VersionStatus]:
        """Return the versions serving knows of, newest first.

        Raises:
            NotFoundError: serving knows no version of the model.
        """
        request = wire.GetModelStatusRequest(model_spec=_Servable(model, version, label).to_proto())
        reply = self._call(self._status, request, timeout_s)
        found = [
            VersionStatus(
                version=each.version,
                state=VersionState(wire.ModelVersionStatus.State.Name(each.state)),
                error=each.status.error_message or None if each.status.error_code else None,
            )
            for each in reply.model_version_status
        ]
        return sorted(found, key=lambda each: each.version, reverse=True)

    def wait_until_available(
        self, model: str, version: int | None = None, timeout_s: float = 60.0
    ) -> VersionStatus:
        """Wait until a version (by default any) answers predictions, and return it.

        Raises:
            LoadFailedError: serving tried the version named here and could not load it.
            DeadlineExceededError: not within timeout_s; the message has what was last seen.
        """
        deadline = time.monotonic() + timeout_s
        pause_s, seen = 0.02, "nothing yet"
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                versions = self.status(model, version=version, timeout_s=min(left_s, 5.0))
            except (NotFoundError, UnavailableError, DeadlineExceededError) as error:
                versions, seen = [], str(error)
            for each in versions:
                if each.state is VersionState.AVAILABLE:
                    return each
                if version is not None and each.state is VersionState.END and each.error:
                    raise LoadFailedError(
                        f"version {version} of model {model} could not be loaded: {each.error}"
                    )
            if versions:
                seen = ", ".join(f"version {each.version} {each.state}" for each in versions)
            time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
            pause_s = min(pause_s * 1.5, 0.5)
        which = f"version {version} of model {model}" if version is not None else f"model {model}"
        raise DeadlineExceededError(f"{which} is not available after {timeout_s:g} s; last seen: {seen}")

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, servable: _Servable, known: ModelMetadata, asked: _Asked, deadline: float) -> Prediction:
        signature = known.signature(asked.signature)
        signature.check_outputs(asked.outputs)
        request = wire.PredictRequest(model_spec=servable.to_proto(), output_filter=asked.outputs)
        request.model_spec.signature_name = signature.name
        for name, array in signature.convert(asked.inputs).items():
            request.inputs[name].CopyFrom(tensors.encode(array, signature.inputs[name].dtype))
        reply = self._call(self._predict, request, _left(deadline))
        version = _version_of(reply.model_spec)
        if version != known.version:
            self._known.pop(servable, None)
        arrays = {name: tensors.decode(reply.outputs[name]) for name in sorted(reply.outputs)}
        return Prediction(arrays, servable.model, version, signature.name)

    def _method(
        self, path: str, request: type[RequestT], reply: type[ReplyT]
    ) -> grpc.UnaryUnaryMultiCallable[RequestT, ReplyT]:
        return self._channel.unary_unary(
            f"/tensorflow.serving.{path}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT], request: RequestT, timeout_s: float
    ) -> ReplyT:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error

    def _translated(self, error: grpc.RpcError) -> FitserveError:
        if not isinstance(error, grpc.Call):
            return ServerFailedError(f"the call to {self.address} broke: {error}")
        code = error.code()
        text = error.details() or code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            text = f"no prediction to be had at {self.address}: {text}"
        return _ERROR_BY_CODE.get(code, ServerFailedError)(f"{text} [{code.name}]")


def _version_of(spec: wire.ModelSpec) -> int | None:
    return int(spec.version.value) if spec.HasField("version") else None


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise DeadlineExceededError("no answer within the time given [DEADLINE_EXCEEDED]")
    return left_s
