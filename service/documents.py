"""From the bytes of a body to a JSON document that every later part can check, store and show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from service.errors import Fault, SpecRefusedError
from service.pointers import pointer_of

MAX_DEPTH = 128
"""Levels of nesting; far below what recursive readers and writers of JSON bear."""

Path = tuple[str | int, ...]


def read_document(raw: bytes) -> object:
    """The document in `raw`.

    Raises:
        SpecRefusedError: it is not JSON; or it holds what can't be stored, with the pointer of each place:
            a text with NUL or half a surrogate pair, a number that is not finite, too deep a nesting.
    """
    try:
        document = json.loads(raw, parse_int=_integer)
    except (ValueError, RecursionError) as error:  # of bytes that are no UTF-8, too
        raise SpecRefusedError([Fault("", f"the body is not JSON: {error}")]) from error
    faults = list(_unfit(document))
    if faults:
        raise SpecRefusedError(faults)
    return document


def _integer(digits: str) -> int:
    # Python refuses to read more than 4300; a double ends at 309.
    if len(digits) > 310:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _unfit(document: object) -> Iterator[Fault]:
    """Every place whose value can't be stored; walked without recursion, as the nesting isn't known yet."""
    waiting: list[tuple[Path, object]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict | list) and len(path) >= MAX_DEPTH:
            yield Fault(pointer_of(path), f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(value, dict):
            for key, each in value.items():
                if _has_surrogate(key):  # no pointer can be written to it
                    yield Fault(pointer_of(path), f"a key is not Unicode text. Received: {ascii(key)[:80]}")
                    continue
                if "\0" in key:
                    detail = f"a key can't hold NUL. Received: {ascii(key)[:80]}"
                    yield Fault(pointer_of((*path, key)), detail)
                waiting.append(((*path, key), each))
        elif isinstance(value, list):
            waiting.extend(((*path, index), each) for index, each in enumerate(value))
        elif isinstance(value, str) and ("\0" in value or _has_surrogate(value)):
            detail = f"not Unicode text without NUL. Received: {ascii(value)[:80]}"
            yield Fault(pointer_of(path), detail)
        elif isinstance(value, float) and not math.isfinite(value):
            yield Fault(pointer_of(path), f"a number must be finite. Received: {value}")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= each <= "\udfff" for each in text) if not text.isascii() else False
