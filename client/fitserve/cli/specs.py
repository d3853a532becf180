"""Specs and instances from files: JSON, YAML, .npy and CSV."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from fitserve.errors import InvalidInputError


def read_spec(path: str) -> dict[str, Any]:
    """Read a job's spec from a JSON or YAML file, or from the standard input by the name `-`.

    Raises:
        InvalidInputError: no such file, neither JSON nor YAML, or no mapping.
    """
    text = sys.stdin.read() if path == "-" else _text(Path(path))
    spec = json.loads(text) if text.lstrip().startswith("{") and _is_json(text) else _yaml(text, path)
    if not isinstance(spec, dict):
        raise InvalidInputError(f"{path} must hold one mapping. Received: {type(spec).__name__}")
    return spec


def with_values(spec: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Apply `fit.epochs=3` settings in place; a value is JSON where it parses, else text.

    Raises:
        InvalidInputError: no `=`, or the path leads through something that is no mapping or list.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise InvalidInputError(f"--set wants path=value, like fit.epochs=3. Received: {setting!r}")
        value = json.loads(text) if _is_json(text) else text
        here: Any = spec
        *parents, last = path.split(".")
        for name in parents:
            here = here.setdefault(name, {}) if isinstance(here, dict) else _item(here, name, setting)
        if isinstance(here, dict):
            here[last] = value
        else:
            _item(here, last, setting)
            here[int(last)] = value
    return spec


def read_instances(path: Path) -> list[Any]:
    """Read prediction rows: .json (a list, or TF Serving's `{"instances": [...]}`), .npy, or .csv.

    A CSV whose first line is all numbers gives lists of numbers; else that line names the inputs and each row
    is a mapping of names to values, numbers where they parse as such and None where a cell is empty.

    Raises:
        InvalidInputError: another suffix, or the file doesn't hold what its suffix says.
    """
    readers = {".json": _json_instances, ".npy": _npy_instances, ".csv": _csv_instances}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInputError(f"instances are read from {', '.join(readers)} files. Received: {path.name}")
    return reader(path)


def parse_instances(text: str, source: str = "--instances") -> list[Any]:
    """Read prediction rows from JSON text."""
    if not _is_json(text):
        raise InvalidInputError(f"{source} must hold JSON. Received: {text[:80]!r}")
    found = json.loads(text)
    if isinstance(found, dict) and "instances" in found:
        found = found["instances"]
    if not isinstance(found, list):
        raise InvalidInputError(f"{source} must hold a list of rows. Received: {type(found).__name__}")
    return found


def _json_instances(path: Path) -> list[Any]:
    return parse_instances(_text(path), path.name)


def _npy_instances(path: Path) -> list[Any]:
    import numpy as np

    try:
        rows: list[Any] = np.atleast_1d(np.load(path, allow_pickle=False)).tolist()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} can't be read as .npy: {error}") from error
    return rows


def _csv_instances(path: Path) -> list[Any]:
    rows = [row for row in csv.reader(_text(path).splitlines()) if row]
    if not rows:
        raise InvalidInputError(f"{path.name} has no rows")
    first, *rest = [[_number(cell) for cell in row] for row in rows]
    if all(isinstance(cell, float) for cell in first):
        return [first, *rest]
    uneven = next((n for n, row in enumerate(rest, start=1) if len(row) != len(first)), None)
    if uneven is not None:
        raise InvalidInputError(
            f"row {uneven} of {path.name} has {len(rest[uneven - 1])} cells, not {len(first)}"
        )
    return [
        {name: None if cell == "" else cell for name, cell in zip(rows[0], row, strict=True)} for row in rest
    ]


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} can't be read: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _yaml(text: str, path: str) -> Any:  # noqa: ANN401 - any document
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's core schema where 1.1 would surprise: 1e-3 is a number, a date and `no` are text."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to tell a loader its scalars
            first: [
                (tag, pattern)
                for tag, pattern in resolvers
                if tag.rpartition(":")[2] not in {"timestamp", "bool", "float"}
            ]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), "tTfF"
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
        ),
        "-+0123456789.",
    )
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader by descent
    except yaml.YAMLError as error:
        raise InvalidInputError(f"{path} is neither JSON nor YAML: {error}") from error


def _item(here: Any, name: str, setting: str) -> Any:  # noqa: ANN401 - any document
    if not isinstance(here, list) or not name.isdecimal() or int(name) >= len(here):
        raise InvalidInputError(f"--set {setting}: there is nothing at {name!r}")
    return here[int(name)]
