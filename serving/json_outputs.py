"""Numpy to a JSON reply, in the forms of TensorFlow Serving's HTTP API.

Rows (`predictions`) list one element a row; columns (`outputs`) give each tensor whole. A single output goes
without its name. Bytes of an output named `..._bytes` are `{"b64": "..."}`; NaN and Infinity stand bare.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis.classification_pb2 import ClassificationResult
from tensorflow_serving.apis.regression_pb2 import RegressionResult

from serving import tensors
from serving.errors import Code, RequestError
from serving.tensors import Array


def outputs(arrays: Mapping[str, Array], *, rows: bool) -> str:
    """Return the reply's JSON text.

    Raises:
        RequestError: INVALID_ARGUMENT, when rows are asked for and the outputs have no common batch size,
            or an output's type has no JSON form.
    """
    if not rows:
        columns = {name: _nested(_texts(array, name)) for name, array in arrays.items()}
        return f'{{\n    "outputs": {_object_or_only(columns)}\n}}'
    batch_size = _batch_size(arrays)
    texts = {name: _texts(array, name) for name, array in arrays.items()}
    elements = [
        _object_or_only({name: _nested(each[row]) for name, each in texts.items()})
        for row in range(batch_size)
    ]
    return '{\n    "predictions": [' + ", ".join(elements) + "\n    ]\n}"


def classifications(result: ClassificationResult) -> str:
    """Return the reply to `:classify`: for each example a list of [label, score]."""
    rows = [
        "[" + ", ".join(f"[{_string(each.label)}, {_float(each.score)}]" for each in row.classes) + "]"
        for row in result.classifications
    ]
    return _results(rows)


def regressions(result: RegressionResult) -> str:
    """Return the reply to `:regress`: a number for each example."""
    return _results([_float(each.value) for each in result.regressions])


def _results(texts: Sequence[str]) -> str:
    return '{\n    "results": [' + ", ".join(texts) + "\n    ]\n}"


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    (text,) = _element_texts(np.array([value], np.float32), "")
    return text


def _batch_size(arrays: Mapping[str, Array]) -> int:
    batch_size = -1
    for name, array in arrays.items():
        if array.ndim == 0:
            raise RequestError(Code.INVALID_ARGUMENT, f"Tensor name: {name} has no shape information ")
        if batch_size not in {-1, array.shape[0]}:
            raise RequestError(
                Code.INVALID_ARGUMENT,
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {batch_size}",
            )
        batch_size = array.shape[0]
    return batch_size


def _texts(array: Array, name: str) -> Array:
    """Return the array with each element as its JSON text, in the same shape."""
    texts: Array = np.empty(array.size, object)
    texts[:] = _element_texts(array.ravel(), name)
    return texts.reshape(array.shape)


def _element_texts(flat: Array, name: str) -> list[str]:
    match flat.dtype.kind:
        case "O" | "S" if name.endswith("_bytes"):
            return [json.dumps({"b64": base64.b64encode(value).decode()}) for value in flat.tolist()]
        case "O" | "S":
            return [_string(value.decode("utf-8", "replace")) for value in flat.tolist()]
        case "b":
            return ["true" if value else "false" for value in flat.tolist()]
        case "i" | "u":
            return list(map(str, flat.tolist()))
        case kind if kind == "c" or flat.dtype.names:
            type_name = tensors.name_of(tensors.number_of(flat.dtype))
            raise RequestError(
                Code.INVALID_ARGUMENT, f"Failed to write JSON value for tensor type: {type_name}"
            )
    if flat.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
        flat = flat.astype(np.float32)
    # The shortest text that reads back as the same float32; Python's own repr would show a double's digits.
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [words.get(text, text) for text in flat.astype("U").tolist()]


# Any: a text, or an array of them, depending on the depth.
def _nested(texts: Any) -> str:  # noqa: ANN401
    if isinstance(texts, str):
        return texts
    if texts.ndim == 0:
        return str(texts.item())
    return "[" + ", ".join(map(_nested, texts)) + "]"


def _object_or_only(texts: Mapping[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"
