import ml_dtypes
import numpy as np
import pytest
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving import tensors
from serving.errors import RequestError

ARRAYS = [
    np.array([[1.5, -2.0, np.inf]], np.float32),
    np.array([1e300, np.nan]),
    np.array([[-1], [2**31 - 1]], np.int32),
    np.array([255, 0], np.uint8),
    np.array([-300], np.int16),
    np.array([-7], np.int8),
    np.array([b"caf\xc3\xa9", b"", b"\xff\x00"], object),
    np.array([1 + 2j, 3 - 4j], np.complex64),
    np.array([-(2**63), 2**63 - 1], np.int64),
    np.array([[True, False]]),
    np.array([1.5, -2.0], ml_dtypes.bfloat16),
    np.array([65535], np.uint16),
    np.array([1 - 1j], np.complex128),
    np.array([0.1, 65504], np.float16),
    np.array([2**32 - 1], np.uint32),
    np.array([2**64 - 1], np.uint64),
    *[np.array([(0,), (100,)], tensors.DTYPES[number]) for number in (11, 12, 13, 15, 16)],
    np.array(3.25, np.float32),
    np.zeros((0, 4), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
@pytest.mark.parametrize("as_content", [False, True])
def test_tensorflow_reads_what_we_write_and_we_do_too(array, as_content):
    proto = TensorProto.FromString(tensors.encode(array, as_content=as_content))

    np.testing.assert_array_equal(make_ndarray(proto), array)
    read = tensors.decode(proto, "x")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_we_read_what_tensorflow_writes(array):
    np.testing.assert_array_equal(tensors.decode(make_tensor_proto(array), "x"), array)


def proto(dtype, shape, **values):
    made = TensorProto(dtype=dtype, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def test_the_last_value_fills_the_rest_and_no_value_is_zero():
    assert tensors.decode(proto(1, [4], float_val=[1, 2]), "x").tolist() == [1, 2, 2, 2]
    assert tensors.decode(proto(9, [2]), "x").tolist() == [0, 0]
    assert tensors.decode(proto(7, [2]), "x").tolist() == [b"", b""]


@pytest.mark.parametrize(
    "damaged",
    [
        proto(1, [2], tensor_content=b"1234"),
        proto(1, [2], tensor_content=b"12345"),
        proto(1, [1], float_val=[1, 2]),
        proto(1, [-1], float_val=[1]),
        proto(1, [1 << 40], float_val=[1]),
        proto(0, [1]),
        proto(21, [1]),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(damaged):
    with pytest.raises(RequestError, match="tensor parsing error: x"):
        tensors.decode(damaged, "x")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32])
def test_lengths_are_written_as_protobuf_does(value):
    expected = TensorProto(version_number=value).SerializeToString()[1:] if 0 < value < 2**31 else None

    assert expected is None or tensors.varint(value) == expected
    assert len(tensors.varint(value)) == max(1, -(-value.bit_length() // 7))
