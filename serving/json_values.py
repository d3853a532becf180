"""What JSON requests have in common: an object, base64 values, exact numbers, values shown in errors."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving import tensors
from serving.errors import Code, RequestError

# Any in this file: a value that came out of a JSON document.

# The largest whole number below which every whole number has a float of its own.
EXACT = {1: 2**24 - 1, 2: 2**53 - 1, 14: 2**8 - 1, 19: 2**11 - 1}

_MOST_SHOWN = 1000
# Whitespace by RFC 8259.
_BLANKS = b" \t\r\n"
# Half a surrogate pair as an escape: no text, though Python's parser takes it for some.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> dict[str, Any]:
    """Return the request's JSON object; NaN and Infinity are numbers here.

    Raises:
        RequestError: INVALID_ARGUMENT, when it is empty, isn't JSON, or isn't an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if not body.strip(_BLANKS):
        raise invalid(f"JSON Parse error: The document is empty. at offset: {len(body)}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        offset = getattr(error, "pos", 0)
        raise invalid(f"JSON Parse error: Invalid value. at offset: {offset}") from error
    if _SURROGATE.search(body):
        _check_surrogates(document)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """Return the signature asked for, empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def exact(value: int | float, number: int) -> int | float:
    """Return a number that a float type (a DataType number) can hold as it is, but for its rounding.

    Raises:
        RequestError: INVALID_ARGUMENT, when it is a whole number without a float of its own, or out of range.
    """
    with np.errstate(over="ignore"):
        if isinstance(value, int) and abs(value) < 2**64:
            lossy = abs(value) > EXACT[number]
        else:
            # RapidJSON reads whole numbers beyond 64 bits as doubles.
            value = _double(value)
            lossy = bool(np.isfinite(value) and not np.isfinite(tensors.DTYPES[number].type(value)))
    if lossy:
        raise invalid(
            f"Cannot convert JSON value: {shown(value)} to {tensors.name_of(number)} "
            "without loss of precision."
        )
    return value


def decoded(value: dict[str, Any]) -> bytes:
    """Return the bytes of a `{"b64": "..."}`.

    Raises:
        RequestError: INVALID_ARGUMENT, when it isn't one, or not of base64.
    """
    if not is_b64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def is_b64(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value is bytes in base64."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def kind(value: Any) -> str:  # noqa: ANN401
    """Return the name of a value's JSON type, as RapidJSON has it."""
    if isinstance(value, bool):
        return str(value)
    names = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names.get(type(value), "Null")


def shown(value: Any) -> str:  # noqa: ANN401
    """Return a value for an error's text."""
    # The value comes back in the error; a large or deep request need not be written whole.
    as_json = ""
    for part in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
        as_json += part
        if len(as_json) > _MOST_SHOWN:
            return f"{as_json[:_MOST_SHOWN]}..."
    return as_json


def _double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise invalid("JSON Parse error: Number too big to be stored in double.") from error


def _check_surrogates(document: Any) -> None:  # noqa: ANN401
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from error


def invalid(reason: str) -> RequestError:
    """Return the error of a request that can't be read."""
    return RequestError(Code.INVALID_ARGUMENT, reason)
