"""numpy <-> TensorProto, without TensorFlow.

Sent tensors use `tensor_content` (one memory copy); received ones may use it or the `*_val` fields, as
TensorFlow Serving does by default. Strings are object arrays of bytes; bfloat16, which numpy lacks, comes as
float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fitserve._protos.tensor_pb2 import DataType, TensorProto
from fitserve.errors import InvalidInputError, ServerFailedError
from fitserve.rows import STRING, lacking, missing_value

Array = NDArray[Any]

BFLOAT16 = "bfloat16"

# name -> (enum value, numpy's form on the wire, field of the *_val form)
_DTYPES: Mapping[str, tuple[DataType, str, str]] = {
    "float32": (DataType.DT_FLOAT, "<f4", "float_val"),
    "float64": (DataType.DT_DOUBLE, "<f8", "double_val"),
    "float16": (DataType.DT_HALF, "<f2", "half_val"),
    BFLOAT16: (DataType.DT_BFLOAT16, "<u2", "half_val"),
    "int8": (DataType.DT_INT8, "<i1", "int_val"),
    "int16": (DataType.DT_INT16, "<i2", "int_val"),
    "int32": (DataType.DT_INT32, "<i4", "int_val"),
    "int64": (DataType.DT_INT64, "<i8", "int64_val"),
    "uint8": (DataType.DT_UINT8, "<u1", "int_val"),
    "uint16": (DataType.DT_UINT16, "<u2", "int_val"),
    "uint32": (DataType.DT_UINT32, "<u4", "uint32_val"),
    "uint64": (DataType.DT_UINT64, "<u8", "uint64_val"),
    "bool": (DataType.DT_BOOL, "?", "bool_val"),
    "complex64": (DataType.DT_COMPLEX64, "<c8", "scomplex_val"),
    "complex128": (DataType.DT_COMPLEX128, "<c16", "dcomplex_val"),
    STRING: (DataType.DT_STRING, "O", "string_val"),
}
_NAMES: Mapping[int, str] = {number: name for name, (number, _, _) in _DTYPES.items()}
# What the *_val field holds, where it isn't the dtype itself.
_VAL_DTYPE: Mapping[str, str] = {
    "half_val": "<i4",
    "int_val": "<i4",
    "scomplex_val": "<f4",
    "dcomplex_val": "<f8",
}


def dtype_name(number: int) -> str:
    """Return numpy's name for a DataType, "string" for bytes, or the enum's name where we can't carry it."""
    if number in _NAMES:
        return _NAMES[number]
    return str(DataType.Name(number)) if number in DataType.values() else f"DataType {number}"


def to_array(value: ArrayLike, dtype: str) -> Array:
    """Make an array of the dtype a model wants, when no value changes its meaning by that.

    Lists, Python numbers and float64 become what is wanted; integers must fit; floats never become integers
    and numbers never become strings. `str` is encoded as UTF-8. None, a missing value, becomes NaN or "".

    Raises:
        InvalidInputError: the value is ragged, of another kind, or out of the dtype's range; or a value is
            missing where the dtype has none to say so.
    """
    if dtype not in _DTYPES:
        raise InvalidInputError(
            f"this client can't send tensors of dtype {dtype}; it knows {', '.join(_DTYPES)}"
        )
    if dtype == STRING:
        return _to_strings(value)
    try:
        given = np.asarray(value)
    except ValueError as error:  # numpy's words for a ragged list speak of inhomogeneous shapes
        raise InvalidInputError(f"the value is no regular array: {error}") from error
    if given.dtype == object:
        given = _without_gaps(given, dtype)
    wanted = np.dtype(np.float32 if dtype == BFLOAT16 else dtype)
    if given.dtype == wanted or given.dtype.name == dtype:
        return given
    if given.size == 0:
        return given.astype(wanted)
    if given.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        low, high = int(given.min()), int(given.max())
        if low < limits.min or high > limits.max:
            raise InvalidInputError(f"{low if low < limits.min else high} does not fit in {dtype}")
        return given.astype(wanted)
    if given.dtype.kind not in "biufc" or not np.can_cast(given.dtype, wanted, "same_kind"):
        raise InvalidInputError(f"the model wants {dtype}. Received: {_kind(given)}")
    try:
        with np.errstate(over="raise"):
            return given.astype(wanted)
    except FloatingPointError as error:
        raise InvalidInputError(f"a value of the {given.dtype.name} array does not fit in {dtype}") from error


def encode(array: Array, dtype: str | None = None) -> TensorProto:
    """Write an array as it is; `dtype` names what numpy can't say (bfloat16 held as float32).

    Raises:
        InvalidInputError: the array's dtype has no counterpart on the wire.
    """
    name = dtype or (STRING if array.dtype.kind in "OSUT" else array.dtype.name)
    if name not in _DTYPES:
        raise InvalidInputError(f"this client can't send arrays of dtype {array.dtype}")
    number, wire, _ = _DTYPES[name]
    tensor = TensorProto(dtype=number)
    shape = tensor.tensor_shape  # touching it marks the shape as known, which a scalar needs
    shape.SetInParent()
    for size in array.shape:
        shape.dim.add(size=size)
    if name == STRING:
        tensor.string_val.extend(_to_strings(array).ravel().tolist())
    elif name == BFLOAT16:
        tensor.tensor_content = _to_bfloat16_bits(array).tobytes()
    else:
        tensor.tensor_content = array.astype(wire, copy=False).tobytes()
    return tensor


def decode(tensor: TensorProto) -> Array:
    """Read a tensor into an array of its own memory, writable.

    Raises:
        ServerFailedError: a dtype this client can't carry, or fewer bytes than the shape wants.
    """
    name = dtype_name(tensor.dtype)
    if name not in _DTYPES:
        raise ServerFailedError(f"the server sent a tensor of dtype {name}, which this client can't read")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    _, wire, field = _DTYPES[name]
    if name == STRING:
        flat: Array = np.empty(len(tensor.string_val), dtype=object)
        flat[:] = list(tensor.string_val)
    elif tensor.tensor_content:
        flat = np.frombuffer(bytearray(tensor.tensor_content), dtype=wire)
    else:
        flat = _from_values(np.array(getattr(tensor, field), dtype=_VAL_DTYPE.get(field, wire)), field, wire)
    if name == BFLOAT16:
        flat = (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return _filled(flat, shape, name)


def _from_values(values: Array, field: str, wire: str) -> Array:
    if field in {"scomplex_val", "dcomplex_val"}:  # pairs of parts
        return values.view(wire)
    if field == "half_val":  # an int32 that carries 16 bits
        return values.astype("<u2").view(wire)
    return values.astype(wire, copy=False)


def _filled(flat: Array, shape: tuple[int, ...], name: str) -> Array:
    count = math.prod(shape)
    if flat.size < count and name != STRING:
        # TensorProto's own rule: the last value stands for all that follow; none at all means zeros.
        flat = np.pad(flat, (0, count - flat.size), mode="edge" if flat.size else "constant")
    elif flat.size == 1 and count > 1:
        flat = np.repeat(flat, count)
    if flat.size != count:
        raise ServerFailedError(f"the server sent {flat.size} values of {name} for shape {shape}")
    return flat.reshape(shape)


def _to_strings(value: ArrayLike) -> Array:
    # Through object, since numpy's own "S" type drops trailing zero bytes.
    given = value if isinstance(value, np.ndarray) else _object_array(value)
    flat: Array = np.empty(given.size, dtype=object)
    for index, each in enumerate(given.ravel().tolist()):
        if each is None or (isinstance(each, float) and math.isnan(each)):  # pandas has NaN among texts
            flat[index] = b""
            continue
        if not isinstance(each, str | bytes):
            raise InvalidInputError(
                f"the model wants string. Received: {type(each).__name__} among the values"
            )
        flat[index] = each.encode() if isinstance(each, str) else each
    return flat.reshape(given.shape)


def _without_gaps(given: Array, dtype: str) -> Array:
    """Put NaN in the place of None, and let numpy see again what kind of values these are."""
    gaps: Array = np.frompyfunc(lambda each: each is None, 1, 1)(given).astype(bool)
    if not gaps.any():
        return given
    filler = missing_value(dtype)
    if filler is None:
        raise InvalidInputError(lacking(dtype, int(np.argwhere(gaps)[0][0]) + 1 if given.ndim else 1))
    return np.array(np.where(gaps, filler, given).tolist())


def _object_array(value: ArrayLike) -> Array:
    try:
        return np.array(value, dtype=object)
    except ValueError as error:
        raise InvalidInputError(f"the value is no regular array: {error}") from error


def _to_bfloat16_bits(array: Array) -> Array:
    if array.dtype.name == BFLOAT16:  # ml_dtypes' own
        return array.view("<u2")
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4").reshape(array.shape)
    # Round to nearest, ties to even: add just under half, and the last kept bit decides the tie.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(
        "<u2"
    )
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def _kind(array: Array) -> str:
    return "str" if array.dtype.kind in "US" else array.dtype.name
