"""What must hold for every tensor and every request body, however odd: found by Hypothesis, not by hand."""

import gzip
import json
import math
import signal

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tensorflow import make_ndarray
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving import json_examples, json_inputs, json_outputs, json_values, tensors
from serving.errors import Code, RequestError
from serving.rest import refusal
from tests.serving.asking import CODE, leave

settings.register_profile("serving", deadline=None, max_examples=100, derandomize=True, database=None)
settings.load_profile("serving")

SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
REFUSALS = {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED}


@st.composite
def arrays(draw, numbers=tuple(tensors.DTYPES)):
    number, shape = draw(st.sampled_from(numbers)), draw(SHAPES)
    dtype, count = tensors.DTYPES[number], math.prod(shape)
    if number == tensors.STRING:
        array = np.empty(count, object)
        array[:] = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return array.reshape(shape)
    content = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if dtype == np.bool_:
        content = bytes(byte & 1 for byte in content)
    return np.frombuffer(content, dtype).reshape(shape)


@given(arrays(), st.booleans())
def test_every_tensor_comes_back_as_it_went(array, as_content):
    proto = TensorProto.FromString(tensors.encode(array, as_content=as_content))

    read = tensors.decode(proto, "x")

    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(make_ndarray(proto), array)


NUMBERS = [number for number in tensors.DTYPES if number not in tensors.QUANTIZED | {8: 0, 18: 0}]


@given(arrays(NUMBERS).filter(lambda array: array.ndim > 0 and array.size > 0), st.booleans())
def test_every_tensor_with_a_json_form_comes_back_as_it_went(array, rows):
    number = tensors.number_of(array.dtype)
    reply = json.loads(json_outputs.outputs({"x_bytes": array}, rows=rows))
    request = {"instances": reply["predictions"]} if rows else {"inputs": reply["outputs"]}

    read, were_rows = json_inputs.inputs(request, {"x_bytes": number})

    assert were_rows is rows
    assert read["x_bytes"].dtype == array.dtype
    np.testing.assert_array_equal(read["x_bytes"], array)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.builds(lambda text: {"b64": text}, st.text("Ag=?", max_size=4))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner, max_size=3),
    max_leaves=12,
)
KEYS = ["instances", "inputs", "signature_name", "examples", "context"]
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def accepted_or_refused(read):
    """Read; a refusal has to be a fault of the request, and one that can be told."""
    refused = None
    try:
        read()
    except RequestError as error:
        refused = error
    if refused is not None:
        assert refused.code in REFUSALS
        assert json.loads(refusal(refused).body)["error"] == str(refused)


@given(DOCUMENTS, st.lists(st.sampled_from(list(tensors.DTYPES)), min_size=1, max_size=2))
@example({"instances": nested(64)}, [1])
@example({"instances": nested(65)}, [1])
@example({"inputs": nested(300)}, [7])
@example({"inputs": 10**400}, [1])
@example({"inputs": [10**30, 0.5]}, [2])
def test_every_predict_document_is_taken_or_refused(document, numbers):
    accepted_or_refused(lambda: json_inputs.inputs(document, dict(zip("ab", numbers, strict=False))))
    accepted_or_refused(lambda: json_values.signature_name(document))


@given(DOCUMENTS | st.builds(lambda rows: {"examples": rows}, st.lists(VALUES, max_size=3)))
@example({"examples": [{"x": 10**400}]})
@example({"examples": [{"x": nested(400)}]})
def test_every_document_of_examples_is_taken_or_refused(document):
    accepted_or_refused(lambda: json_examples.examples(document))


@given(
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | DOCUMENTS.map(lambda d: json.dumps(d).encode())
)
@example(b'{"a": "\\ud800"}')
@example(b'{"\\udfff": [1]}')
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"a": 1' + b"0" * 10_000 + b"}")
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe{\0}\0")
def test_every_body_is_parsed_or_refused(body):
    accepted_or_refused(lambda: json_values.parse(body))


def test_a_surrogate_pair_is_text():
    assert json_values.parse(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@st.composite
def protos(draw):
    proto = TensorProto(dtype=draw(st.integers(0, 30) | st.integers(-5, 200)))
    proto.tensor_shape.unknown_rank = draw(st.booleans().map(lambda b: b and True))
    for size in draw(st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62, 2**63 - 1]), max_size=4)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = draw(st.binary(max_size=20) | st.just(b""))
    proto.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    proto.string_val.extend(draw(st.lists(st.binary(max_size=3), max_size=3)))
    proto.half_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    proto.scomplex_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    return proto


@given(protos())
def test_every_tensor_proto_is_read_or_refused(proto):
    accepted_or_refused(lambda: tensors.decode(proto, "x"))


@given(st.binary(max_size=60))
def test_every_message_is_read_or_refused(content):
    try:
        proto = TensorProto.FromString(content)
    except DecodeError:
        return
    accepted_or_refused(lambda: tensors.decode(proto, "x"))


@pytest.fixture(scope="module")
def server(saved_models, place, start_server, tmp_path_factory):
    base = tmp_path_factory.mktemp("store") / "judge"
    place(saved_models / "judge", base / "1")
    started = start_server(f"--model_base_path={base}", "--model_name=judge")
    yield started
    leave(started, signal.SIGTERM, 5)


PATHS = ["/v1/models/judge:predict", "/v1/models/judge:classify", "/v1/models/judge/versions/1:regress"]


@settings(max_examples=60)
@given(
    st.sampled_from(PATHS),
    DOCUMENTS.map(lambda d: json.dumps(d).encode()) | st.binary(max_size=30),
    st.booleans(),
)
@example(PATHS[0], b'{"signature_name": "\\ud800", "inputs": 1}', False)
@example(PATHS[1], b'{"signature_name": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}", False)
@example(PATHS[1], b'{"examples": [{"\\ud800": 1}]}', False)
@example(PATHS[2], b"\x1f\x8b\x08 cut off", True)
def test_no_body_is_answered_with_a_fault_of_the_server(server, path, body, zipped):
    headers = {"content-encoding": "gzip"} if zipped else {}

    status, document = server.get(path, "POST", gzip.compress(body) if zipped else body, headers)

    assert status in {200, 400, 501}, document


METHODS = [
    "PredictionService/Predict",
    "PredictionService/Classify",
    "PredictionService/Regress",
    "PredictionService/MultiInference",
    "PredictionService/GetModelMetadata",
    "ModelService/GetModelStatus",
]


@settings(max_examples=60)
@given(st.sampled_from(METHODS), st.binary(max_size=40))
@example(METHODS[0], b"\x0a\x07\x0a\x05judge")
@example(METHODS[3], b"\x0a\x09\x0a\x07\x0a\x05judge")
def test_no_message_is_answered_with_a_fault_of_the_server(server, method, message):
    call = server.channel.unary_unary(f"/tensorflow.serving.{method}")

    code = call.future(message, timeout=20).code()

    assert code in {CODE.OK, CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.UNIMPLEMENTED}
