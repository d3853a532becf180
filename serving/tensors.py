"""TensorProto to numpy and back, by hand: several times faster than TensorFlow's own helpers.

Strings are object arrays of bytes. Field numbers and the meaning of short value lists (the last value
fills the rest) are those of tensorflow/core/framework/tensor.proto.
"""

import math
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType

from serving.errors import Code, RequestError

# Any: a tensor's element type is known at run time only.
Array = NDArray[Any]

# A tensor that claims more than protobuf could carry is made of one repeated value: an attack or a slip.
MAX_TENSOR_BYTES = 2**31 - 1

FLOAT = 1
STRING = 7
DTYPES: dict[int, np.dtype[Any]] = {
    FLOAT: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    5: np.dtype(np.int16),
    6: np.dtype(np.int8),
    STRING: np.dtype(object),
    8: np.dtype(np.complex64),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    # Quantized numbers are TensorFlow's own numpy types, a named field over the whole number.
    11: np.dtype([("qint8", np.int8)]),
    12: np.dtype([("quint8", np.uint8)]),
    13: np.dtype([("qint32", np.int32)]),
    14: np.dtype(ml_dtypes.bfloat16),
    15: np.dtype([("qint16", np.int16)]),
    16: np.dtype([("quint16", np.uint16)]),
    17: np.dtype(np.uint16),
    18: np.dtype(np.complex128),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
}
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
_VALUES = {
    1: "float_val",
    2: "double_val",
    3: "int_val",
    4: "int_val",
    5: "int_val",
    6: "int_val",
    STRING: "string_val",
    8: "scomplex_val",
    9: "int64_val",
    10: "bool_val",
    11: "int_val",
    12: "int_val",
    13: "int_val",
    14: "half_val",
    15: "int_val",
    16: "int_val",
    17: "int_val",
    18: "dcomplex_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
}
_HALVES = {14, 19}
_COMPLEX_PARTS: dict[int, np.dtype[Any]] = {8: np.dtype(np.float32), 18: np.dtype(np.float64)}
QUANTIZED = {number: dtype[0] for number, dtype in DTYPES.items() if dtype.names}
# Fields whose packed form is the array's own memory: tag of float_val (5) and of double_val (6).
_PACKED = {1: b"\x2a", 2: b"\x32"}
_TENSOR_CONTENT = b"\x22"
_SMALL = [bytes([value]) for value in range(0x80)]
# Clients choose the shapes.
_MOST_HEADS = 1024


def decode(proto: TensorProto, name: str) -> Array:
    """Return the tensor's value; `name` is for the error's text.

    Raises:
        RequestError: INVALID_ARGUMENT, when shape, type and content don't fit each other.
    """
    number = proto.dtype
    shape = tuple([dimension.size for dimension in proto.tensor_shape.dim])
    count = math.prod(shape)
    dtype = DTYPES.get(number)
    if (
        dtype is None
        or proto.tensor_shape.unknown_rank
        or (shape and min(shape) < 0)
        or count * dtype.itemsize > MAX_TENSOR_BYTES
    ):
        raise _unparsable(name)
    try:
        if (content := proto.tensor_content) and number != STRING:
            return np.frombuffer(content, dtype).reshape(shape)
        return _filled(_values(proto, number, dtype), count).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise _unparsable(name) from error


def encode(array: Array, *, as_content: bool = False) -> bytes:
    """Return a serialized TensorProto with dense value fields, or with tensor_content where asked for.

    Raises:
        RequestError: UNIMPLEMENTED, when no TensorProto carries such elements.
    """
    number = number_of(array.dtype)
    head = _head(number, array.shape)
    if as_content and number != STRING:
        return head + delimited(_TENSOR_CONTENT, np.ascontiguousarray(array).tobytes())
    if number in _PACKED:
        return head + delimited(_PACKED[number], array.tobytes())
    values = TensorProto()
    field = getattr(values, _VALUES[number])
    if number == STRING:
        field.extend(array.ravel().tolist())
    elif number in _HALVES:
        field.extend(np.ascontiguousarray(array).view(np.uint16).ravel().tolist())
    elif number in _COMPLEX_PARTS:
        field.extend(np.ascontiguousarray(array).view(_COMPLEX_PARTS[number]).ravel().tolist())
    elif number in QUANTIZED:
        field.extend(np.ascontiguousarray(array).view(QUANTIZED[number]).ravel().tolist())
    else:
        field.extend(array.ravel().tolist())
    return head + bytes(values.SerializeToString())


def number_of(dtype: np.dtype[Any]) -> int:
    """Return the DataType number of a numpy type; byte strings count as strings."""
    if dtype.kind == "S":
        return STRING
    try:
        return _NUMBERS[dtype]
    except KeyError as error:
        raise RequestError(Code.UNIMPLEMENTED, f"no tensor type for numpy's {dtype}") from error


def name_of(number: int) -> str:
    """Return a DataType's name as TensorFlow writes it in its errors: `float`, `int64`, `string`."""
    return DataType.Name(number).removeprefix("DT_").lower() if number in DataType.values() else str(number)


def delimited(tag: bytes, content: bytes) -> bytes:
    """Return a length-delimited protobuf field: tag, length, content."""
    return tag + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return protobuf's encoding of a number that isn't negative."""
    if value < 0x80:
        return _SMALL[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


@lru_cache(_MOST_HEADS)
def _head(number: int, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join([delimited(b"\x12", b"\x08" + varint(size) if size else b"") for size in shape])
    return b"\x08" + varint(number) + delimited(b"\x12", dimensions)


def _values(proto: TensorProto, number: int, dtype: np.dtype[Any]) -> Array:
    field = getattr(proto, _VALUES[number])
    if number in _HALVES:
        return _array(field, np.dtype(np.uint16)).view(dtype)
    if number in _COMPLEX_PARTS:
        return _array(field, _COMPLEX_PARTS[number]).view(dtype)
    if number in QUANTIZED:
        return _array(field, QUANTIZED[number]).view(dtype)
    if number == STRING:
        strings: Array = np.empty(len(field), object)
        strings[:] = list(field)
        return strings
    return _array(field, dtype)


def _array(field: Any, dtype: np.dtype[Any]) -> Array:  # noqa: ANN401 - a repeated field of protobuf
    array: Array = np.array(field, dtype)
    return array


def _filled(values: Array, count: int) -> Array:
    if len(values) == count:
        return values
    if len(values) > count:
        raise ValueError("more values than elements")
    # No values at all stand for zeros, fewer than elements for a repeated last one.
    rest = values[-1] if len(values) else (b"" if values.dtype == object else 0)
    filled: Array = np.full(count, rest, values.dtype)
    filled[: len(values)] = values
    return filled


def _unparsable(name: str) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, f"tensor parsing error: {name}")
