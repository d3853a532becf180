"""Predict requests known by their heads: what a client sends is mostly the same but for its tensor's numbers.

A head is a serialized PredictRequest up to the content of its one tensor. Where nothing but that content
follows, equal heads of requests of equal size mean the same request for other numbers: those are taken as
they lie there, in less time than reading the message takes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.dataplane import Target
from serving.tensors import STRING, Array, number_of

# Clients choose the heads.
MOST_HEADS = 256
MOST_HEAD_BYTES = 512
_MOST_LENGTHS = 4

# Tags: PredictRequest.inputs (2); of its entries key (1) and value (2); of TensorProto dtype (1),
# tensor_shape (2), version_number (3), tensor_content (4), and packed, float_val (5) and double_val (6).
_INPUTS, _KEY, _VALUE = 0x12, 0x0A, 0x12
_BEFORE_CONTENT = {0x08, 0x12, 0x18}
_TENSOR_CONTENT = 0x22
_PACKED = {0x2A: np.dtype(np.float32), 0x32: np.dtype(np.float64)}


@dataclass(frozen=True, slots=True)
class Head:
    """What a Predict request asks, without its numbers."""

    target: Target
    signature_name: str
    inputs: tuple[str, ...]
    output_filter: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    head: Head
    # Any: a tensor's element type is known at run time only.
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RequestHeads:
    """The heads that one server saw of late."""

    _known: dict[bytes, _Known] = field(default_factory=dict)
    # How long heads are of requests of that size.
    _lengths: dict[int, list[int]] = field(default_factory=dict)

    def read(self, body: bytes) -> tuple[Head, dict[str, Array]] | None:
        """Return what a request asks and its input, or None when it has to be parsed."""
        for length in self._lengths.get(len(body), ()):
            known = self._known.get(body[:length])
            if known is not None:
                array: Array = np.frombuffer(body[length:], known.dtype).reshape(known.shape)
                return known.head, {known.head.inputs[0]: array}
        return None

    def learn(self, body: bytes, head: Head, inputs: dict[str, Array]) -> None:
        """Remember the head of a request that was parsed, if it has one."""
        if len(inputs) != 1:
            return
        (array,) = inputs.values()
        length = _content_begin(body, array.dtype)
        if length is None or length > MOST_HEAD_BYTES or number_of(array.dtype) == STRING:
            return
        if len(body) - length != math.prod(array.shape) * array.itemsize:
            return
        lengths = self._lengths.setdefault(len(body), [])
        if len(self._known) >= MOST_HEADS or len(lengths) >= _MOST_LENGTHS:
            self._known.clear()
            self._lengths.clear()
            lengths = self._lengths.setdefault(len(body), [])
        self._known[body[:length]] = _Known(head, array.dtype, array.shape)
        if length not in lengths:
            lengths.append(length)


def _content_begin(body: bytes, dtype: np.dtype[Any]) -> int | None:
    """Return where the content of the only tensor begins, when it is all there is to the request's end."""
    fields = list(_fields(body, 0))
    if [tag for tag, _ in fields].count(_INPUTS) != 1 or fields[-1][0] != _INPUTS:
        return None
    fields = list(_fields(body, fields[-1][1]))
    if [tag for tag, _ in fields] != [_KEY, _VALUE]:
        return None
    *before, (tag, begin) = _fields(body, fields[-1][1])
    if not {tag for tag, _ in before} <= _BEFORE_CONTENT:
        return None
    return begin if tag == _TENSOR_CONTENT or _PACKED.get(tag) == dtype else None


def _fields(body: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Yield the tag and the begin of the value of each field of a valid message, up to the body's end."""
    while begin < len(body):
        tag, begin = _varint(body, begin)
        match tag & 7:
            case 2:
                size, begin = _varint(body, begin)
                yield tag, begin
                begin += size
            case 0:
                yield tag, begin
                _, begin = _varint(body, begin)
            case wire:
                yield tag, begin
                # 1 and 5 are of fixed size; fields of a group (3, 4) count as fields of the message.
                begin += {1: 8, 5: 4}.get(wire, 0)


def _varint(body: bytes, begin: int) -> tuple[int, int]:
    value = shift = 0
    while body[begin] & 0x80:
        value |= (body[begin] & 0x7F) << shift
        begin, shift = begin + 1, shift + 7
    return value | body[begin] << shift, begin + 1
