"""HTTP, as TensorFlow Serving's REST API and the two health pages answer it."""

import json
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving import json_examples, json_inputs, json_outputs, json_values, rpc
from serving.dataplane import DataPlane, Target
from serving.errors import Code, RequestError
from serving.monitoring import REST, Metrics
from serving.signatures import DEFAULT

_log = logging.getLogger(__name__)

_PREDICT = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([^/:]+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)
_MODEL = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/([^/:]+)|/labels/([^/:]+))?(/metadata)?", re.IGNORECASE
)
# The largest protobuf message; a gzip body may not unpack to more.
MAX_BODY_BYTES = 2**31 - 1
_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; the body is UTF-8 JSON."""

    status: int
    body: bytes


class Rest:
    """The pages of one server."""

    def __init__(self, plane: DataPlane, metrics: Metrics) -> None:
        self._plane = plane
        self._verbs = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        self._metrics = metrics

    async def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a request; every error is an answer, too. Header names are lower case."""
        if path in {"/healthz", "/readyz"} and method == "GET":
            return self._health(path)
        try:
            with self._metrics.observe(path.rpartition(":")[2].capitalize(), REST):
                return Reply(200, (await self._answer(method, path, headers, body)).encode())
        except RequestError as error:
            return refusal(error)
        except Exception as error:
            _log.exception("call_failed path=%s", path)
            return refusal(RequestError(Code.INTERNAL, f"{type(error).__name__} while answering {path}"))

    async def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
        if method == "POST" and (match := _PREDICT.fullmatch(path)):
            model, number, label, verb = match.groups()
            document = json_values.parse(_unpacked(headers, body))
            return await self._verbs[verb.lower()](_target(model, number, label), document)
        if method == "GET" and (match := _MODEL.fullmatch(path)):
            model, number, label, metadata = match.groups()
            if not model:
                raise RequestError(Code.INVALID_ARGUMENT, "Missing model name in request.")
            target = _target(model, number, label)
            return self._metadata(target) if metadata else self._status(target)
        raise RequestError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")

    async def _predict(self, target: Target, document: dict[str, Any]) -> str:
        name = json_values.signature_name(document) or DEFAULT
        with self._plane.lease(target) as lease:
            if name not in lease.servable.signatures:
                raise RequestError(
                    Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def'
                )
            wanted = lease.servable.signatures[name].inputs
            if not wanted:
                raise RequestError(Code.INVALID_ARGUMENT, f"Failed to get input map for signature: {name}")
            dtypes = {alias: wanted[alias].dtype for alias in sorted(wanted)}
            inputs, rows = json_inputs.inputs(document, dtypes)
            plan = lease.servable.plan(name, list(inputs), ())
            arrays = await self._plane.run(lease, plan, inputs)
        return json_outputs.outputs(dict(zip(plan.outputs, arrays, strict=True)), rows=rows)

    async def _classify(self, target: Target, document: dict[str, Any]) -> str:
        request = ClassificationRequest(input=json_examples.examples(document))
        request.model_spec.signature_name = json_values.signature_name(document)
        return json_outputs.classifications((await rpc.classify(self._plane, target, request)).result)

    async def _regress(self, target: Target, document: dict[str, Any]) -> str:
        request = RegressionRequest(input=json_examples.examples(document))
        request.model_spec.signature_name = json_values.signature_name(document)
        return json_outputs.regressions((await rpc.regress(self._plane, target, request)).result)

    def _status(self, target: Target) -> str:
        response = rpc.status(self._plane, target)
        return json.dumps(_document(response), indent=1)

    def _metadata(self, target: Target) -> str:
        response = rpc.metadata(self._plane, target)
        signatures = SignatureDefMap()
        response.metadata[rpc.SIGNATURE_DEF].Unpack(signatures)
        document = {
            "model_spec": _document(response.model_spec),
            "metadata": {rpc.SIGNATURE_DEF: _document(signatures)},
        }
        return json.dumps(document, indent=1)

    def _health(self, path: str) -> Reply:
        ready = path == "/healthz" or self._plane.ready
        return Reply(200 if ready else 503, json.dumps({"status": "ok" if ready else "not serving"}).encode())


def refusal(error: RequestError) -> Reply:
    """Return the answer that tells an error."""
    return Reply(_STATUS.get(error.code, 500), json.dumps({"error": str(error)}, ensure_ascii=False).encode())


def _target(model: str, number: str | None, label: str | None) -> Target:
    if number is not None and not (number.isascii() and number.isdigit() and int(number) < 2**63):
        raise RequestError(Code.INVALID_ARGUMENT, f"Failed to convert version: {number} to numeric.")
    return Target(unquote(model), int(number) if number else None, unquote(label) if label else None)


def _unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    if headers.get("content-encoding", "").lower() != "gzip":
        return body
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unzip.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise RequestError(Code.INVALID_ARGUMENT, f"gzip body doesn't unpack: {error}") from error
    if unzip.unconsumed_tail or not unzip.eof:
        raise RequestError(Code.INVALID_ARGUMENT, "gzip body is cut off or too large")
    return unpacked


# object: a protobuf message; the generated classes have no type in common that mypy could see here.
def _document(message: object) -> object:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
