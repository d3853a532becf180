"""The catalogue: which Keras classes a spec may name, with which arguments; data, read without Keras.

`python -m trainer.catalog --write` generates it from the installed Keras, `--check` compares the two.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("catalog.json")


@dataclass(frozen=True)
class Argument:
    """One constructor argument; `type` is `any` unless Keras leaves no doubt what it takes."""

    name: str
    type: str
    required: bool
    default: Any = None  # a JSON value of any kind


@dataclass(frozen=True)
class Entry:
    """One class a spec may name; without `arguments` its config has a grammar of its own (models).

    `class_name` is the class's own, where Keras exports it under several (Convolution2D, l1_l2).
    `indexed` are the defaults its `from_config` wants spelled out, though its constructor doesn't.
    """

    class_name: str
    modules: tuple[str, ...]
    arguments: dict[str, Argument] | None
    indexed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """The sections (layers, optimizers, losses, ...) by name, each class by its exact name."""

    keras: str
    sections: dict[str, dict[str, Entry]]
    aliases: dict[str, dict[str, str]]
    activations: frozenset[str]
    by_class: dict[str, list[Entry]] = field(repr=False)

    def names(self, section: str) -> set[str]:
        """Return every string that means something in `section`: class names and Keras's short names."""
        return self.sections[section].keys() | self.aliases.get(section, {}).keys()


@cache
def catalog() -> Catalog:
    """Read the data file once."""
    document = json.loads(_FILE.read_text())
    sections = {
        section: {name: _entry(name, entry) for name, entry in entries.items()}
        for section, entries in document["sections"].items()
    }
    by_class: dict[str, list[Entry]] = {}
    for entries in sections.values():
        for name, entry in entries.items():
            by_class.setdefault(name, []).append(entry)
    return Catalog(
        keras=document["keras"],
        sections=sections,
        aliases=document["aliases"],
        activations=frozenset(document["activations"]),
        by_class=by_class,
    )


def fits(value: object, kind: str) -> bool:
    """Say whether a JSON value can be of the catalogue's type `kind`; whole floats pass for integers."""
    match kind:
        case "boolean":
            return isinstance(value, int) and value in {0, 1}
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            )
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _:
            return True


def _entry(name: str, document: dict[str, Any]) -> Entry:
    arguments = document["arguments"]
    return Entry(
        class_name=document.get("class", name),
        modules=tuple(document["modules"]),
        arguments=None
        if arguments is None
        else {
            key: Argument(key, value.get("type", "any"), value.get("required", False), value.get("default"))
            for key, value in arguments.items()
        },
        indexed=tuple(document.get("indexed", ())),
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the catalogue, or compare it with the installed Keras; 1 when they differ."""
    from trainer.cataloguing import describe

    parser = argparse.ArgumentParser(prog="python -m trainer.catalog", description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="generate catalog.json from the installed Keras")
    action.add_argument(
        "--check", action="store_true", help="fail when catalog.json differs from the installed Keras"
    )
    options = parser.parse_args(arguments)
    text = json.dumps(describe(), indent=1, sort_keys=True) + "\n"
    if options.write:
        _FILE.write_text(text)
        return 0
    if text == _FILE.read_text():
        return 0
    sys.stderr.write("trainer/catalog.json differs from the installed Keras: run `make catalog`\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
