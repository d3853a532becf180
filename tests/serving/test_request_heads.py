"""A request known by its head says what it says when it is parsed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving import tensors
from serving.dataplane import Target
from serving.request_heads import MOST_HEADS, Head, RequestHeads
from tests.serving.asking import predict_request

HEAD = Head(Target("m"), "", ("x",), ())
ROWS = np.array([[1.5, -2.0, 3.0]], np.float32)


def parsed(body):
    return {
        name: tensors.decode(proto, name) for name, proto in PredictRequest.FromString(body).inputs.items()
    }


def learnt(body):
    heads = RequestHeads()
    heads.learn(body, HEAD, parsed(body))
    return heads


def with_values(rows):
    request = PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].ParseFromString(tensors.encode(rows))
    return request.SerializeToString()


def with_content(rows, **fields):
    return predict_request("m", x=rows, **fields).SerializeToString()


@pytest.mark.parametrize("write", [with_content, with_values])
def test_other_numbers_under_the_same_head_are_read_as_they_lie_there(write):
    heads = learnt(write(ROWS))
    head, inputs = heads.read(write(ROWS * 2))
    assert head is HEAD
    np.testing.assert_array_equal(inputs["x"], ROWS * 2)
    assert inputs["x"].dtype == np.float32


@pytest.mark.parametrize(
    "other",
    [
        predict_request("n", x=ROWS),
        predict_request("m", y=ROWS),
        predict_request("m", version=2, x=ROWS),
        predict_request("m", x=ROWS.T),
        predict_request("m", x=ROWS.astype(np.int32)),
        predict_request("m", x=np.vstack([ROWS, ROWS])),
    ],
)
def test_another_head_is_not_known(other):
    assert learnt(with_content(ROWS)).read(other.SerializeToString()) is None


@pytest.mark.parametrize(
    "request_",
    [
        predict_request("m", output_filter=["y"], x=ROWS),  # something follows the content
        predict_request("m", x=ROWS, y=ROWS),
        predict_request("m", x=np.array([b"abc"], object)),
        predict_request("m", x=np.zeros((0, 3), np.float32)),
    ],
)
def test_requests_that_are_more_than_a_head_and_one_content_are_always_parsed(request_):
    body = request_.SerializeToString()
    assert learnt(body).read(body) is None


def test_a_content_beside_values_is_always_parsed():
    # Of both, tensor_content counts: the numbers at the end are none of the tensor's.
    tensor = tensors.encode(ROWS, as_content=True) + tensors.encode(ROWS)[-ROWS.nbytes - 2 :]
    entry = tensors.delimited(b"\x0a", b"x") + tensors.delimited(b"\x12", tensor)
    body = tensors.delimited(b"\x0a", b"\x0a\x01m") + tensors.delimited(b"\x12", entry)
    np.testing.assert_array_equal(parsed(body)["x"], ROWS)
    assert learnt(body).read(body) is None


def test_few_values_for_many_elements_are_always_parsed():
    request = PredictRequest()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=4)
    request.inputs["x"].float_val.append(1.0)
    body = request.SerializeToString()
    assert learnt(body).read(body) is None


def test_no_more_heads_are_kept_than_a_few():
    heads = RequestHeads()
    for number in range(3 * MOST_HEADS):
        body = predict_request(f"m{number:04}", x=ROWS).SerializeToString()
        heads.learn(body, HEAD, parsed(body))
        assert heads.read(body) is not None
    kept = sum(
        heads.read(predict_request(f"m{number:04}", x=ROWS).SerializeToString()) is not None
        for number in range(3 * MOST_HEADS)
    )
    assert 0 < kept <= MOST_HEADS


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        arrays.arrays(
            st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]),
            arrays.array_shapes(min_dims=0, max_dims=3, max_side=4),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_known_is_what_would_be_parsed(values):
    heads = RequestHeads()
    for value in values:
        for body in (with_content(value), with_values(value)):
            expected = parsed(body)
            heads.learn(body, HEAD, expected)
            known = heads.read(body)
            if known is not None:
                np.testing.assert_array_equal(known[1]["x"], expected["x"])
                assert known[1]["x"].dtype == expected["x"].dtype
