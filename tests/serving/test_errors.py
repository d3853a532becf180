"""Every refusal of TensorFlow Serving, word by word, over gRPC and HTTP, of a server started by its flags."""

import base64
import gzip
import json
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.errors import Code, RequestError
from serving.rest import refusal as http_refusal
from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONTS, leave, ones, predict_request, refusal

METHODS = {
    PredictRequest: "Predict",
    ClassificationRequest: "Classify",
    RegressionRequest: "Regress",
    MultiInferenceRequest: "MultiInference",
    GetModelMetadataRequest: "GetModelMetadata",
    GetModelStatusRequest: "GetModelStatus",
    ReloadConfigRequest: "HandleReloadConfigRequest",
}


@pytest.fixture(scope="module", params=FRONTS)
def server(request, saved_models, place, start_server, tmp_path_factory):
    """One server with the models sum (versions 1 and 2, label stable on 1), dense, text, judge and slow."""
    store = Store(tmp_path_factory.mktemp("store"))
    for number in (1, 2):
        place(saved_models / "sum" / str(number), store.root / "sum" / str(number))
    models = {name: ServedModel() for name in ("dense", "text", "judge", "slow")}
    for name in models:
        place(saved_models / name, store.root / name / "1")
    models["sum"] = ServedModel(frozenset({1, 2}), {"stable": 1})
    config = store.write_models_config(models)
    started = start_server(
        f"--model_config_file={config}", "--rest_api_timeout_in_ms=200", chosen=request.param
    )
    yield started
    leave(started, signal.SIGTERM, 5)


def examples(kind, model, signature="", **target):
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    _aim(request.model_spec, **target)
    request.input.example_list.examples.add().features.feature["x"].float_list.value.extend((1.0, 2.0))
    return request


def multi(model, **target):
    request = MultiInferenceRequest()
    task = request.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name = model
    _aim(task.model_spec, **target)
    request.input.example_list.examples.add()
    return request


def metadata(model, *fields, **target):
    request = GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    _aim(request.model_spec, **target)
    return request


def status(model, **target):
    request = GetModelStatusRequest()
    request.model_spec.name = model
    _aim(request.model_spec, **target)
    return request


def _aim(spec, version=None, label=None):
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def reload(*models, **labels):
    request = ReloadConfigRequest()
    for name, base_path in models:
        config = request.config.model_config_list.config.add(
            name=name, base_path=base_path, model_platform="tensorflow"
        )
        config.version_labels.update(labels)
    return request


def every_call(model, **target):
    """Return a request of each method that asks a model's graph or its signatures."""
    return [
        predict_request(model, **target),
        examples(ClassificationRequest, model, **target),
        examples(RegressionRequest, model, **target),
        multi(model, **target),
        metadata(model, "signature_def", **target),
    ]


GRPC = {
    "Servable not found for request: Latest(no)": (CODE.NOT_FOUND, every_call("no")),
    "Servable not found for request: Specific(sum, 7)": (CODE.NOT_FOUND, every_call("sum", version=7)),
    "Could not find any versions of model no": (CODE.NOT_FOUND, [status("no")]),
    "Could not find version 9 of model sum": (CODE.NOT_FOUND, [status("sum", version=9)]),
    "ModelSpec has no name specified.": (CODE.INVALID_ARGUMENT, every_call("")[:3]),
    "Missing ModelSpec": (
        CODE.INVALID_ARGUMENT,
        [PredictRequest(), ClassificationRequest(), RegressionRequest(), GetModelMetadataRequest()],
    ),
    "Unrecognized servable version label: canary": (
        CODE.INVALID_ARGUMENT,
        [*every_call("sum", label="canary"), status("sum", label="canary")],
    ),
    (
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
        "Missing but required: {b}."
    ): (CODE.INVALID_ARGUMENT, [predict_request("sum", a=ones())]),
    (
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
        "Missing but required: {}."
    ): (CODE.INVALID_ARGUMENT, [predict_request("sum", a=ones(), b=ones(), c=ones())]),
    "input tensor alias not found in signature: c. Inputs expected to be in the set {a,b}.": (
        CODE.INVALID_ARGUMENT,
        [predict_request("sum", a=ones(), c=ones())],
    ),
    "output tensor alias not found in signature: z Outputs expected to be in the set {version,y}.": (
        CODE.INVALID_ARGUMENT,
        [predict_request("sum", a=ones(), b=ones(), output_filter=["z"])],
    ),
    "duplicate output tensor alias: y": (
        CODE.INVALID_ARGUMENT,
        [predict_request("sum", a=ones(), b=ones(), output_filter=["y", "y"])],
    ),
    "No signature was found with the name: s": (
        CODE.INVALID_ARGUMENT,
        [examples(ClassificationRequest, "judge", "s"), examples(RegressionRequest, "judge", "s")],
    ),
    "GetModelMetadataRequest must specify at least one metadata_field": (
        CODE.INVALID_ARGUMENT,
        [metadata("sum")],
    ),
    "Metadata field X is not supported": (CODE.INVALID_ARGUMENT, [metadata("sum", "X")]),
    "Illegal to list model m multiple times in config list": (
        CODE.INVALID_ARGUMENT,
        [reload(("m", "/p"), ("m", "/q"))],
    ),
    "Expected model m to have an absolute path or URI; got base_path()=p": (
        CODE.INVALID_ARGUMENT,
        [reload(("m", "p"))],
    ),
    'Serving signature key "s" not found.': (CODE.FAILED_PRECONDITION, [predict_request("sum", "s")]),
    "Request to assign label to version 2 of model m, which is not currently available for inference": (
        CODE.FAILED_PRECONDITION,
        [reload(("m", "/p"), stable=2)],
    ),
}
ASKED = [
    pytest.param(request, code, text, id=f"{METHODS[type(request)]}: {text[:40]}")
    for text, (code, requests) in GRPC.items()
    for request in requests
]


@pytest.mark.parametrize(("request_", "code", "text"), ASKED)
def test_over_grpc(server, request_, code, text):
    assert refusal(server, METHODS[type(request_)], request_) == (code, text)


ROWS = b'{"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}]}'
EXAMPLES = b'{"examples": [{"x": [1.5, 2.5]}]}'
VERBS = {"predict": ROWS, "classify": EXAMPLES, "regress": EXAMPLES}


def every_verb(target):
    """Return a request of each verb, and for the metadata, of a model or a version of one."""
    return [
        *(("POST", f"/v1/models/{target}:{verb}", body) for verb, body in VERBS.items()),
        ("GET", f"/v1/models/{target}/metadata", None),
    ]


HTTP = {
    "Malformed request: GET /p": (400, [("GET", "/p", None)]),
    "Malformed request: POST /v1/models/sum": (400, [("POST", "/v1/models/sum", b"{}")]),
    "Malformed request: GET /v1/models/sum:predict": (400, [("GET", "/v1/models/sum:predict", None)]),
    "Malformed request: POST /v1/models/sum:guess": (400, [("POST", "/v1/models/sum:guess", ROWS)]),
    "Malformed request: POST /v1/models/:predict": (400, [("POST", "/v1/models/:predict", ROWS)]),
    "Missing model name in request.": (400, [("GET", "/v1/models/versions/1", None)]),
    "Failed to convert version: x to numeric.": (
        400,
        [*every_verb("sum/versions/x"), ("GET", "/v1/models/sum/versions/x", None)],
    ),
    "Failed to convert version: 99999999999999999999 to numeric.": (
        400,
        every_verb("sum/versions/99999999999999999999"),
    ),
    "Servable not found for request: Latest(no)": (404, every_verb("no")),
    "Servable not found for request: Specific(sum, 7)": (404, every_verb("sum/versions/7")),
    "Could not find any versions of model no": (404, [("GET", "/v1/models/no", None)]),
    "Could not find version 9 of model sum": (404, [("GET", "/v1/models/sum/versions/9", None)]),
    "Unrecognized servable version label: canary": (
        400,
        [*every_verb("sum/labels/canary"), ("GET", "/v1/models/sum/labels/canary", None)],
    ),
    "JSON Parse error: The document is empty": (
        400,
        [("POST", f"/v1/models/judge:{verb}", b"") for verb in VERBS],
    ),
    "JSON Parse error: The document is empty. at offset: 3": (
        400,
        [("POST", f"/v1/models/judge:{verb}", b"  \n") for verb in VERBS],
    ),
    "JSON Parse error: Invalid value. at offset: 1": (400, [("POST", "/v1/models/sum:predict", b"{")]),
    "Missing 'inputs' or 'instances' key": (400, [("POST", "/v1/models/sum:predict", b"{}")]),
    'Serving signature name: "s" not found in signature def': (
        400,
        [("POST", "/v1/models/sum:predict", b'{"signature_name": "s", "instances": [1]}')],
    ),
    "No signature was found with the name: s": (
        400,
        [
            ("POST", f"/v1/models/judge:{verb}", b'{"signature_name": "s", "examples": [{}]}')
            for verb in ("classify", "regress")
        ],
    ),
    (
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "x" Type: String is not of expected type: float'
    ): (400, [("POST", "/v1/models/dense:predict", b'{"instances": ["x"]}')]),
    'JSON Value: "x" Type: String is not of expected type: float': (
        400,
        [("POST", "/v1/models/dense:predict", b'{"inputs": ["x"]}')],
    ),
}
POSTED = [
    pytest.param(*request, status, text, id=f"{request[0]} {request[1]}: {text[:40]}")
    for text, (status, requests) in HTTP.items()
    for request in requests
]


@pytest.mark.parametrize(("method", "path", "body", "status_", "text"), POSTED)
def test_over_http(server, method, path, body, status_, text):
    assert server.get(path, method, body) == (status_, {"error": text})


@pytest.mark.parametrize("verb", VERBS)
def test_a_signature_name_that_is_no_string(server, verb):
    status_, document = server.post(
        f"/v1/models/judge:{verb}", {"signature_name": 1, "inputs": [1], "examples": [{}]}
    )

    assert status_ == 400
    assert document["error"].endswith("'signature_name' key must be a string value.")


def test_every_code_has_tensorflow_servings_http_status():
    statuses = {code: http_refusal(RequestError(code, "")).status for code in Code}

    assert statuses == dict.fromkeys(Code, 500) | {
        Code.INVALID_ARGUMENT: 400,
        Code.FAILED_PRECONDITION: 400,
        Code.OUT_OF_RANGE: 400,
        Code.NOT_FOUND: 404,
        Code.PERMISSION_DENIED: 403,
        Code.ALREADY_EXISTS: 409,
        Code.ABORTED: 409,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.CANCELLED: 499,
        Code.UNIMPLEMENTED: 501,
        Code.UNAVAILABLE: 503,
        Code.DEADLINE_EXCEEDED: 504,
    }


def test_a_deadline_is_exceeded_over_both(server):
    with pytest.raises(grpc.RpcError) as caught:
        server.call("Predict", predict_request("slow", x=np.ones(1, np.float32)), timeout_s=0.05)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED

    status_, document = server.post("/v1/models/slow:predict", {"instances": [1.0]})
    assert (status_, document) == (504, {"error": "no answer within 0.2 s"})


def test_what_the_graph_refuses_comes_back_with_its_code(server):
    wrong = np.ones((2, 3), np.float32)
    code, text = refusal(server, "Predict", predict_request("dense", features=wrong))
    assert code is CODE.INVALID_ARGUMENT
    assert "Matrix size-incompatible" in text

    status_, document = server.post("/v1/models/dense:predict", {"instances": wrong.tolist()})
    assert status_ == 400
    assert "Matrix size-incompatible" in document["error"]


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b"no gzip", {"content-encoding": "gzip"}, "gzip"),
        (gzip.compress(b"{}")[:-9], {"content-encoding": "gzip"}, "gzip"),
        (b'{"instances": [{"a": [1,2,3], "b": {"b64": "?"}}]}', {}, ""),
        (b'{"instances": [{"words": {"b64": 1}}]}', {}, ""),
        (b"\xff\xfe", {}, "JSON Parse error"),
        (b"[" * 100_000, {}, "JSON Parse error"),
        (b'{"instances": [[1, 2], [3]]}', {}, "xpect"),
        (b'{"inputs": {"a": [[1, 2, 3]]}}', {}, "b"),
        (base64.b64encode(bytes(99)), {}, "JSON Parse error"),
    ],
    ids=["no gzip", "half a gzip", "no base64", "a number for base64", "no UTF-8", "too deep", "ragged",
         "a column less", "no JSON"],
)  # fmt: skip
def test_a_body_that_means_nothing_is_a_bad_request(server, body, headers, text):
    status_, document = server.get("/v1/models/sum:predict", "POST", body, headers)

    assert status_ == 400
    assert text in document["error"]


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"])
@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x7f"])
def test_bytes_that_are_no_message_are_an_invalid_argument(server, method, body):
    call = server.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")

    with pytest.raises(grpc.RpcError) as caught:
        call(body, timeout=20)
    assert caught.value.code() is CODE.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["SessionRun", "PredictStreamed", "Guess"])
def test_calls_that_tensorflow_serving_has_not_either_are_unimplemented(server, method):
    call = server.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")

    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=20)
    assert caught.value.code() is CODE.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("flags", "config", "status_", "text"),
    [
        (
            (),
            "model_config_list { config { name: ",
            1,
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
        (
            (),
            'model_config_list { config { name: "m" base_path: "p" } }',
            1,
            "Expected model m to have an absolute path or URI; got base_path()=p",
        ),
        (("--port=0",), "", 2, "port"),
        (("--batching_parameters_file=/nowhere",), "", 2, "enable_batching"),
        (
            (
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ),
            "",
            2,
            "tensorflow_session_parallelism",
        ),
    ],
    ids=["no config", "a relative path", "no port", "a file without its flag", "all three"],
)
def test_a_start_that_makes_no_sense_ends_at_once(tmp_path, flags, config, status_, text):
    file = tmp_path / "models.config"
    file.write_text(config)
    command = [sys.executable, "-m", "serving.server", f"--model_config_file={file}", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == status_
    assert text in ended.stderr


def test_every_text_of_the_table_is_asked_for():
    """The texts of TensorFlow Serving 2.20 (its sources' own strings), as far as a client can meet them."""
    page = [
        "Servable not found for request: Latest(", "Servable not found for request: Specific(",
        "Could not find any versions of model ", "Could not find version 9 of model ",
        "ModelSpec has no name specified.", "Missing ModelSpec", "Unrecognized servable version label: ",
        "input size does not match signature: ", "input tensor alias not found in signature: ",
        "output tensor alias not found in signature: ", "duplicate output tensor alias: ",
        "No signature was found with the name: ", "GetModelMetadataRequest must specify at least one ",
        "Metadata field X is not supported", "Illegal to list model ", "Expected model m to have an ",
        'Serving signature key "s" not found.', "Request to assign label to version ",
        "Malformed request: ", "Missing model name in request.", "Failed to convert version: ",
        "JSON Parse error: The document is empty", "JSON Parse error: Invalid value", "JSON Value: ",
        "Missing 'inputs' or 'instances' key", "Serving signature name: ",
    ]  # fmt: skip
    asked = [*GRPC, *HTTP]
    assert [text for text in page if not any(each.startswith(text) for each in asked)] == []
    assert json.dumps(asked)
