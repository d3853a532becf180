from __future__ import annotations

import numpy as np
import pytest

from fitserve import InvalidInputError, ServerFailedError, tensors
from fitserve._protos.tensor_pb2 import DataType, TensorProto, TensorShapeProto


def shaped(*sizes: int) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def test_fewer_values_than_the_shape_wants_repeat_the_last():
    tensor = TensorProto(dtype=DataType.DT_FLOAT, tensor_shape=shaped(2, 2), float_val=[1, 2])
    assert tensors.decode(tensor).tolist() == [[1, 2], [2, 2]]


def test_no_values_at_all_are_zeros():
    tensor = TensorProto(dtype=DataType.DT_INT64, tensor_shape=shaped(3))
    assert tensors.decode(tensor).tolist() == [0, 0, 0]


def test_one_string_fills_the_shape():
    tensor = TensorProto(dtype=DataType.DT_STRING, tensor_shape=shaped(2), string_val=[b"a"])
    assert tensors.decode(tensor).tolist() == [b"a", b"a"]


def test_content_of_the_wrong_length_is_refused():
    tensor = TensorProto(dtype=DataType.DT_FLOAT, tensor_shape=shaped(1), tensor_content=b"\0" * 8)
    with pytest.raises(ServerFailedError, match="2 values of float32"):
        tensors.decode(tensor)


def test_a_dtype_without_counterpart_is_named():
    with pytest.raises(ServerFailedError, match="DT_RESOURCE"):
        tensors.decode(TensorProto(dtype=DataType.DT_RESOURCE))


def test_arrays_in_fortran_order_are_sent_row_by_row():
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(tensors.decode(tensors.encode(array)), array)


def test_big_endian_arrays_are_sent_little_endian():
    array = np.array([1, 2], ">i4")
    assert tensors.decode(tensors.encode(tensors.to_array(array, "int32"))).tolist() == [1, 2]


def test_zero_bytes_at_the_end_of_a_string_survive():
    assert tensors.to_array([b"a\0", "é"], "string").tolist() == [b"a\0", "é".encode()]


def test_bfloat16_of_ml_dtypes_goes_as_it_is():
    import ml_dtypes

    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    assert tensors.decode(tensors.encode(tensors.to_array(array, "bfloat16"))).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "float32", np.float32),
        ([1.5], "float16", np.float16),
        ([True, False], "int32", np.int32),
        ([255], "uint8", np.uint8),
        (np.float64([0.1]), "float32", np.float32),
        ([], "int64", np.int64),
    ],
)
def test_values_become_what_is_wanted_where_their_meaning_stays(value, dtype, expected):
    assert tensors.to_array(value, dtype).dtype == expected


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.0], "int32"),
        ([-1], "uint8"),
        ([2**31], "int32"),
        (["1"], "int64"),
        ([1j], "float32"),
        ([None], "int32"),
        ([None, "a"], "float32"),
    ],
)
def test_values_that_would_change_their_meaning_are_refused(value, dtype):
    with pytest.raises(InvalidInputError):
        tensors.to_array(value, dtype)


def test_a_missing_number_is_nan_and_a_missing_text_is_empty():
    numbers = tensors.to_array([[31, None], [None, 1.5]], "float32")
    np.testing.assert_array_equal(numbers, np.float32([[31, np.nan], [np.nan, 1.5]]))
    texts = tensors.to_array(np.array(["Rome", None, float("nan")], object), "string")
    assert texts.tolist() == [b"Rome", b"", b""]
    assert np.isnan(tensors.to_array([None, None], "bfloat16")).all()


def test_a_missing_integer_is_told_with_its_row():
    with pytest.raises(InvalidInputError, match="row 2 has no value, and int64 can't say so"):
        tensors.to_array([1, None, 3], "int64")
