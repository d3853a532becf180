"""A JSON request to numpy, in the forms and with the refusals of TensorFlow Serving's HTTP API.

Rows (`instances`) list one element a row; columns (`inputs`) give each tensor whole. A single input goes
without its name. Bytes are `{"b64": "..."}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving import tensors
from serving.errors import Code, RequestError
from serving.json_values import EXACT, decoded, exact, invalid, is_b64, kind, shown
from serving.tensors import Array

# Any in this file: a value that came out of a JSON document.
Dtypes = Mapping[str, int]

_FLOATS = {1, 2, 14, 19}
_INTEGERS = {3, 4, 5, 6, 9, 17, 22, 23}
_BOOL = 10
# numpy has 64, of which one is the batch's; TensorFlow has 254.
_MOST_DIMENSIONS = 63


def inputs(document: Mapping[str, Any], dtypes: Dtypes) -> tuple[dict[str, Array], bool]:
    """Return the request's tensors by name, and whether they came as rows.

    Raises:
        RequestError: INVALID_ARGUMENT, naming the value that doesn't fit the signature's types.
    """
    if "instances" in document:
        if "inputs" in document:
            raise invalid(
                f"JSON Value: {shown(document)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist "
            )
        return _rows(document, dtypes), True
    if "inputs" in document:
        return _columns(document["inputs"], dtypes), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(document: Mapping[str, Any], dtypes: Dtypes) -> dict[str, Array]:
    instances = document["instances"]
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {shown(document)} No values in 'instances' array")
    named = _is_object(instances[0])
    if not named:
        if len(dtypes) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required "
                "as per tensorinfo_map"
            )
        for index, element in enumerate(instances):
            if _is_object(element):
                raise invalid(f"Expecting value/list but got object at item {index} of input list")
        (name,) = dtypes
        return {name: _batch(instances, dtypes[name], "")}
    for index, element in enumerate(instances):
        if not _is_object(element):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        for key in element:
            if key not in dtypes:
                raise _failed(index, key, f"JSON object: does not have named input: {key}")
        if element.keys() != dtypes.keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shown(element)} "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
    return {name: _batch([element[name] for element in instances], dtypes[name], name) for name in dtypes}


def _columns(value: Any, dtypes: Dtypes) -> dict[str, Array]:  # noqa: ANN401
    if not _is_object(value):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        (name,) = dtypes
        return {name: _array(value, dtypes[name])}
    for name in dtypes:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _array(value[name], number) for name, number in dtypes.items()}


def _batch(elements: list[Any], number: int, key: str) -> Array:
    fast = _fast(elements, number)
    if fast is not None:
        return fast
    arrays: list[Array] = []
    for index, element in enumerate(elements):
        try:
            array = _strict(element, number)
            if arrays and array.size != arrays[0].size:
                raise invalid(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
            if arrays and array.shape != arrays[0].shape:
                raise invalid(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
        except RequestError as error:
            raise _failed(index, key, str(error)) from error
        arrays.append(array)
    return np.stack(arrays)


def _array(value: Any, number: int) -> Array:  # noqa: ANN401
    fast = _fast(value, number)
    return fast if fast is not None else _strict(value, number)


def _fast(value: Any, number: int) -> Array | None:  # noqa: ANN401
    """Let numpy convert numbers; None when anything looks odd, for the careful way to name it."""
    if number not in _FLOATS | _INTEGERS:
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    if array.size == 0 or array.dtype.kind not in "fiu" or _holds_bools(value):
        return None
    return _as_float(array, number) if number in _FLOATS else _as_integer(array, number)


def _as_float(array: Array, number: int) -> Array | None:
    if array.dtype.kind in "iu" and max(abs(int(array.min())), abs(int(array.max()))) > EXACT[number]:
        return None
    with np.errstate(over="ignore"):
        converted: Array = array.astype(tensors.DTYPES[number])
    return converted if np.array_equal(np.isfinite(converted), np.isfinite(array)) else None


def _as_integer(array: Array, number: int) -> Array | None:
    if array.dtype.kind == "f":
        return None
    limits = np.iinfo(tensors.DTYPES[number])
    fits = limits.min <= array.min() and array.max() <= limits.max
    return array.astype(tensors.DTYPES[number]) if fits else None


def _holds_bools(value: Any) -> bool:  # noqa: ANN401
    # numpy takes [true, 0.5] for two numbers; TensorFlow Serving doesn't.
    if isinstance(value, list):
        return (
            any(map(_holds_bools, value))
            if value and isinstance(value[0], list)
            else bool in map(type, value)
        )
    return isinstance(value, bool)


def _strict(value: Any, number: int) -> Array:  # noqa: ANN401
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        if len(shape) > _MOST_DIMENSIONS:
            raise invalid(
                f"Encountered list at unexpected level: {_MOST_DIMENSIONS} expected < {_MOST_DIMENSIONS}"
            )
        first = first[0]
    flat: list[Any] = []
    _fill(value, 0, shape, number, flat)
    array: Array = np.empty(len(flat), tensors.DTYPES[number])
    array[:] = flat
    return array.reshape(shape)


def _fill(value: Any, level: int, shape: Sequence[int], number: int, flat: list[Any]) -> None:  # noqa: ANN401
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_element(value, number))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for each in value:
        _fill(each, level + 1, shape, number, flat)


def _element(value: Any, number: int) -> Any:  # noqa: ANN401
    if number == tensors.STRING:
        if isinstance(value, dict):
            return decoded(value)
        if isinstance(value, str):
            return value.encode()
    elif number == _BOOL:
        if isinstance(value, bool):
            return value
    elif number in _FLOATS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return exact(value, number)
    elif number in _INTEGERS:
        limits = np.iinfo(tensors.DTYPES[number])
        if isinstance(value, int) and not isinstance(value, bool) and limits.min <= value <= limits.max:
            return value
    else:
        raise RequestError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown(value)} to type: {tensors.name_of(number)}",
        )
    raise invalid(
        f"JSON Value: {shown(value)} Type: {kind(value)} is not of expected type: {tensors.name_of(number)}"
    )


def _is_object(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and not is_b64(value)


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _failed(index: int, key: str, text: str) -> RequestError:
    which = f" key: {key}" if key else ""
    return invalid(
        f"Failed to process element: {index}{which} of 'instances' list. Error: INVALID_ARGUMENT: {text}"
    )
