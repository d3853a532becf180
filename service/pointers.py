"""From pydantic's errors to JSON pointers (RFC 6901) and sentences that name the nearest valid word."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from service.errors import Fault

KEY = "[key]"  # where pydantic says that a mapping's key is wrong, not its value
_UNKNOWN_TAG = re.compile(
    r"Input tag '(?P<tag>.*)' found using '(?P<word>[^']*)' does not match any of the expected tags: "
    r"(?P<valid>.*)",
    re.DOTALL,
)


def faults_of(error: ValidationError, body: object, model: type[BaseModel]) -> list[Fault]:
    """Every error of `body` against `model`, each with the pointer of the value that is wrong."""
    return [
        _fault(each, body, _schema_of(model))
        for each in error.errors(include_url=False, include_context=True)
    ]


def pointer_of(path: Sequence[str | int]) -> str:
    """The path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


@functools.cache
def _schema_of(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _fault(error: Mapping[str, Any], body: object, schema: Mapping[str, Any]) -> Fault:
    missing = error["type"] == "missing"
    *parents, last = error["loc"] or ("",)
    mapping = _value_at(body, list(_path_in(body, parents)))
    of_key = last == KEY and not (isinstance(mapping, Mapping) and KEY in mapping)
    path = list(_path_in(body, parents if of_key else error["loc"]))
    detail = str(error["msg"]).removeprefix("Value error, ")
    # The context is lost where errors of one validator pass through another; the sentence has it all.
    tagged = _UNKNOWN_TAG.fullmatch(detail) if error["type"] == "union_tag_invalid" else None
    if error["type"] == "extra_forbidden":
        valid = sorted(_fields_at(schema, path[:-1]))
        detail = f"unknown field {path[-1]!r}; {_nearest(str(path[-1]), valid)}"
    elif tagged:
        valid = re.findall(r"'([^']*)'", tagged["valid"])
        path.append(tagged["word"])
        detail = f"unknown {tagged['word']} {_short(tagged['tag'])}; {_nearest(tagged['tag'], valid)}"
    elif missing:
        detail = "this field is required"
    elif _is_plain(detail):
        received = path[-1] if of_key else _value_at(body, path)
        detail = f"{'As a key: ' if of_key else ''}{detail}. Received: {_short(received)}"
    return Fault(pointer_of(path), detail)


def _is_plain(detail: str) -> bool:
    """Whether it is one of pydantic's own sentences, which don't show the value."""
    return detail.startswith(
        ("Input should", "String should", "List should", "Dictionary should", "Value should")
    )


def _path_in(body: object, loc: Sequence[str | int]) -> Iterator[str | int]:
    """Leave out what pydantic adds to a location: the tag by which a union's member was chosen."""
    here = body
    for part in loc:
        if isinstance(here, Mapping) and part in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and 0 <= part < len(here):
            here = here[part]
        elif isinstance(here, Mapping) and part in here.values():
            continue
        else:
            here = None  # from here on the document lacks what the location names
        yield part


def _value_at(body: object, path: Sequence[str | int]) -> object:
    """The value there, or the last one on the way, where the body does not go so far."""
    for part in path:
        if isinstance(body, Mapping) and part in body:
            body = body[str(part)]
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            break
    return body


def _fields_at(schema: Mapping[str, Any], path: Sequence[str | int]) -> set[str]:
    """All fields that some reading of the schema allows at this place."""
    places = [schema]
    for part in path:
        places = [child for place in places for child in _children(place, part, schema)]
    return {
        name for place in places for each in _readings(place, schema) for name in each.get("properties", {})
    }


def _children(
    place: Mapping[str, Any], part: str | int, root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    for each in _readings(place, root):
        if isinstance(part, int):
            items = each.get("items")
            if isinstance(items, Mapping):
                yield items
        elif part in each.get("properties", {}):
            yield each["properties"][part]
        elif isinstance(each.get("additionalProperties"), Mapping):
            yield each["additionalProperties"]


def _readings(place: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in place:
        yield from _readings(root["$defs"][place["$ref"].rsplit("/", 1)[1]], root)
        return
    yield place
    for word in ("anyOf", "oneOf", "allOf"):
        for each in place.get(word, ()):
            yield from _readings(each, root)


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"valid here: {', '.join(valid)}" if valid else "none is valid here"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
