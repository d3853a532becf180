"""The JSON form of tf.Examples in `:classify` and `:regress` requests.

`examples` lists one object an example, from a feature's name to its value or list of values; `context` is an
object of features that all examples share. Whole numbers and booleans are int64, other numbers float32,
strings and `{"b64": "..."}` bytes.
"""

from collections.abc import Mapping
from typing import Any

from tensorflow_serving.apis.input_pb2 import Input

from serving import tensors
from serving.json_values import decoded, exact, invalid, is_b64, kind, shown

# Any in this file: a value that came out of a JSON document, or a message of tensorflow/core/example.

_KINDS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


def examples(document: Mapping[str, Any]) -> Input:
    """Return the examples of a request, with their context if there is one.

    Raises:
        RequestError: INVALID_ARGUMENT, naming the feature that no tf.Example can hold.
    """
    given = Input()
    listed = given.example_list
    if "context" in document:
        listed = given.example_list_with_context
        _fill(listed.context, document["context"])
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected and was not "
            "found"
        )
    rows = document["examples"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    for row in rows:
        _fill(listed.examples.add(), row)
    return given


def _fill(example: Any, row: Any) -> None:  # noqa: ANN401
    # Without features it still is an example, and a context is still given.
    example.features.SetInParent()
    if not isinstance(row, dict):
        raise invalid(f"Example must be JSON object but got JSON {kind(row)}")
    for name, content in row.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add(feature, name, value)


def _add(feature: Any, name: str, value: Any) -> None:  # noqa: ANN401
    field, converted = _converted(name, value)
    chosen = feature.WhichOneof("kind")
    if chosen not in {None, field}:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[chosen]}")
    if field == "float_list":
        converted = exact(converted, tensors.FLOAT)
    getattr(feature, field).value.append(converted)


def _converted(name: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if is_b64(value):
        return "bytes_list", decoded(value)
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return "int64_list", value
        if 0 <= value < 2**64:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        # What is beyond 64 bits counts as a double.
        return "float_list", value
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {kind(value)}")
