"""Checking Keras's serialized objects against the catalogue, as data, before Keras sees them.

Keras's own safe mode leaves holes (a `registered_name` that wins over the class, vocabulary files, no caps),
so nothing is deserialized that this walk hasn't passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainer.catalog import Argument, Entry, catalog, fits
from trainer.forms import Fault, Loc, nearest

MAX_DEPTH = 60
MAX_NODES = 200_000
# Beyond int32 most kernels overflow; a size (units, filters) is capped lower.
MAX_INTEGER = 2**31 - 1
MAX_SIZE = 2**24

_SINGULAR = {
    "layers": "layer", "optimizers": "optimizer", "schedules": "learning rate schedule", "losses": "loss",
    "metrics": "metric", "initializers": "initializer", "regularizers": "regularizer",
    "constraints": "constraint", "operations": "operation", "models": "model",
}  # fmt: skip
_OBJECT_KEYS = frozenset(
    {"module", "class_name", "config", "registered_name", "build_config", "compile_config",
     "shared_object_id", "name", "inbound_nodes", "dtype"}
)  # fmt: skip
# Exact names that carry code, files or other frameworks; the answer says what to do instead.
_REFUSED = {
    "Lambda": "Lambda carries code; use a built-in layer, or ask the operator for a plugin",
    "function": "functions don't arrive in a spec; name a built-in by its string",
    "__lambda__": "code doesn't arrive in a spec; name a built-in by its string",
    "__typespec__": "type specs are not part of a model's description here",
    "__bytes__": "bytes are not part of a model's description here",
    "TFSMLayer": "TFSMLayer reads files of the worker; start from a published version instead",
    "JaxLayer": "JaxLayer carries code of another framework",
    "FlaxLayer": "FlaxLayer carries code of another framework",
    "TorchModuleWrapper": "TorchModuleWrapper carries code of another framework",
}
_FORBIDDEN_ARGUMENTS = {
    **dict.fromkeys(("filepath", "filename", "log_dir", "origin"), "paths belong to the job: leave it out"),
    **dict.fromkeys(
        ("function", "call_fn", "init_fn", "custom_objects"), "code doesn't arrive in a spec: leave it out"
    ),
}
# Keras writes these inside configs; they hold plain data only.
_PLAIN_OBJECTS = {
    "DTypePolicy": ("keras", "keras.dtype_policies"),
    "SeedGenerator": ("keras.random",),
    "__keras_tensor__": (),
    "__ellipsis__": (),
    "__slice__": (),
    "__tensor__": (),
    "__numpy__": (),
}
_ROLES = {
    "activation": "activations", "recurrent_activation": "activations",
    "layer": "layers", "backward_layer": "layers", "forward_layer": "layers", "cell": "layers",
    "learning_rate": "schedules",
}  # fmt: skip


def size_faults(value: Any) -> list[Fault]:  # noqa: ANN401  # any JSON value, not yet trusted
    """Refuse what is too deep, too large or no JSON, without recursion, at the first place where it shows."""
    stack: list[tuple[Any, Loc]] = [(value, ())]
    nodes = 0
    while stack:
        node, at = stack.pop()
        nodes += 1
        if nodes > MAX_NODES:
            return [Fault((), f"more than {MAX_NODES:,} values in one description")]
        if len(at) > MAX_DEPTH:
            return [Fault(at[:8], f"nested deeper than {MAX_DEPTH} levels")]
        if isinstance(node, Mapping):
            if not all(isinstance(key, str) for key in node):
                return [Fault(at, "keys must be strings")]
            stack.extend((child, (*at, key)) for key, child in node.items())
        elif isinstance(node, (list, tuple)):
            stack.extend((child, (*at, i)) for i, child in enumerate(node))
        elif detail := _scalar_fault(node):
            return [Fault(at, detail)]
    return []


def _scalar_fault(value: object) -> str:
    match value:
        case None | str() | bool():
            return ""
        case int():
            return (
                "" if abs(value) <= MAX_INTEGER else f"{value} is beyond the largest integer, {MAX_INTEGER:,}"
            )
        case float():
            return "" if math.isfinite(value) else f"{value} is no JSON number"
        case _:
            return f"not a JSON value: {type(value).__name__}"


def object_faults(value: Any, *sections: str, at: Loc = ()) -> Iterator[Fault]:  # noqa: ANN401
    """Yield every fault of one serialized object that should come from one of the catalogue's `sections`."""
    if not isinstance(value, Mapping):
        yield Fault(at, f"expected an object with class_name and config, received {_shown(value)}")
        return
    name = value.get("class_name")
    if not isinstance(name, str):
        said = (
            ("missing", "missing")
            if name is None
            else (f"expected a string, received {_shown(name)}", "spec")
        )
        yield Fault((*at, "class_name"), *said)
        return
    if name in _REFUSED:
        yield Fault((*at, "class_name"), _REFUSED[name])
        return
    for key in value.keys() - _OBJECT_KEYS:
        yield Fault((*at, key), f"unknown key {key!r}{nearest(key, _OBJECT_KEYS)}")
    registered = value.get("registered_name")
    if registered is not None and registered != name:
        yield Fault(
            (*at, "registered_name"), f"must be absent, null or {name!r}: custom classes come with plugins"
        )
    module = value.get("module")
    entry = _entry(name, sections, module)
    if entry is None:
        yield Fault((*at, "class_name"), _unknown(name, sections))
        return
    if module is not None and module not in entry.modules:
        yield Fault((*at, "module"), f"{name} lives in {entry.modules[0]}, not in {_shown(module)}")
    config = value.get("config")
    if config is None:
        config = {}
    if not isinstance(config, Mapping):
        yield Fault((*at, "config"), f"expected an object, received {_shown(config)}")
    elif entry.arguments is None:
        yield from _model_faults(config, (*at, "config"))
    else:
        yield from _config_faults(entry, entry.arguments, config, (*at, "config"))
    for key in ("build_config", "inbound_nodes"):
        yield from _data_faults(value.get(key), (*at, key))


def name_faults(value: str, section: str, at: Loc = ()) -> Iterator[Fault]:
    """Yield the fault of a string that should name something in `section`, as Keras's short names do."""
    known = catalog()
    valid = known.activations if section == "activations" else known.names(section)
    entry = None if section == "activations" else _entry(value, (section,), None)
    if value not in valid and entry is None:
        noun = "activation" if section == "activations" else _SINGULAR[section]
        yield Fault(at, f"unknown {noun} {value!r}{nearest(value, valid)}")
        return
    required = [argument.name for argument in _arguments(entry) if argument.required]
    if entry is not None and required:
        config = ", ".join(f'"{name}": ...' for name in required)
        yield Fault(
            at,
            f"{value!r} requires {', '.join(required)}, which a name can't carry: "
            f'write {{"class_name": "{entry.class_name}", "config": {{{config}}}}}',
        )


def completed(value: Any, *sections: str) -> Any:  # noqa: ANN401
    """Fill in what Keras wants spelled out: modules, by which it finds nested classes, and some defaults.

    `sections` are those that a name is looked for in first: Identity is a layer and an initializer.
    """
    if isinstance(value, str):
        return _completed_name(value, sections)
    if isinstance(value, (list, tuple)):
        return [completed(child, *sections) for child in value]
    if not isinstance(value, Mapping):
        return value
    full = {
        key: completed(child, *(sections if key == "config" else _sections_of(key)))
        for key, child in value.items()
    }
    name = full.get("class_name")
    every = tuple(dict.fromkeys((*sections, *catalog().sections)))
    entry = _entry(name, every, full.get("module")) if isinstance(name, str) else None
    if entry is not None and name not in _PLAIN_OBJECTS:
        full["class_name"] = entry.class_name
        full["module"] = full.get("module") or entry.modules[0]
        defaults = {key: entry.arguments[key].default for key in entry.indexed} if entry.arguments else {}
        full["config"] = defaults | (full.get("config") or {})
        full.setdefault("registered_name", None)
    return full


def _completed_name(name: str, sections: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Keep a name as the user wrote it, and Keras logs it, unless it is one that only an object can have."""
    known = catalog()
    for section in sections:
        entry = _entry(name, (section,), None)
        short = name.lower() if section == "optimizers" else name
        if entry is not None and (entry.indexed or short not in known.aliases.get(section, {})):
            return completed({"class_name": entry.class_name}, section)
    return name


def _entry(name: str, sections: tuple[str, ...], module: object) -> Entry | None:
    """Find a class by name; where two sections have it (Add: layer and operation), its module decides."""
    known = catalog()
    candidates = []
    for section in sections:
        entries, short = known.sections[section], known.aliases.get(section, {}).get(name, "")
        entry = entries.get(name) or entries.get(short)
        if entry is None and section == "optimizers":  # whose names alone Keras takes in any case
            entry = next((each for each in entries.values() if each.class_name.lower() == name.lower()), None)
        if entry is not None:
            candidates.append(entry)
    return next(
        (entry for entry in candidates if module in entry.modules), candidates[0] if candidates else None
    )


def _arguments(entry: Entry | None) -> Iterable[Argument]:
    return () if entry is None or entry.arguments is None else entry.arguments.values()


def _unknown(name: str, sections: tuple[str, ...]) -> str:
    noun = _SINGULAR[sections[0]]
    elsewhere = [section for section, entries in catalog().sections.items() if name in entries]
    if elsewhere:
        other = _SINGULAR[elsewhere[0]]
        return f"{name} is no {noun} but {'an' if other[0] in 'aeiou' else 'a'} {other}"
    valid = {candidate for section in sections for candidate in catalog().sections[section]}
    return f"unknown {noun} {name!r}{nearest(name, valid)}"


def _config_faults(
    entry: Entry, arguments: Mapping[str, Argument], config: Mapping[str, Any], at: Loc
) -> Iterator[Fault]:
    for name, value in config.items():
        here = (*at, name)
        argument = arguments.get(name)
        if name in _FORBIDDEN_ARGUMENTS:
            if value is not None:
                yield Fault(here, _FORBIDDEN_ARGUMENTS[name])
        elif argument is None:
            yield Fault(here, f"{entry.class_name} has no argument {name!r}{nearest(name, arguments)}")
        else:
            yield from _argument_faults(entry, argument, value, here)
    for argument in arguments.values():
        if argument.required and argument.name not in config:
            yield Fault((*at, argument.name), f"{entry.class_name} requires {argument.name}", "missing")


def _argument_faults(entry: Entry, argument: Argument, value: Any, at: Loc) -> Iterator[Fault]:  # noqa: ANN401
    if value is None:
        if argument.required and argument.type != "any":
            yield Fault(at, f"{entry.class_name} requires {argument.name}, received null")
        return
    if argument.name in {"vocabulary", "idf_weights"} and isinstance(value, str):
        yield Fault(at, "a string would be read as a file of the worker: give the list of words itself")
        return
    if not fits(value, argument.type) and not (argument.type == "number" and isinstance(value, Mapping)):
        article = "an" if argument.type == "integer" else "a"
        yield Fault(at, f"{entry.class_name} takes {article} {argument.type} here, received {_shown(value)}")
        return
    if argument.type == "integer" and abs(value) > MAX_SIZE and argument.name != "seed":
        yield Fault(at, f"{value:,} is beyond the largest size allowed, {MAX_SIZE:,}")
        return
    role = _role(argument.name)
    if role is not None and isinstance(value, str):
        yield from name_faults(value, role, at)
    elif role in {None, "activations"} or not isinstance(value, Mapping):
        yield from _data_faults(value, at)
    elif role == "layers":
        yield from object_faults(value, "layers", "models", at=at)
    elif role is not None:
        yield from object_faults(value, role, at=at)


def _sections_of(key: str) -> tuple[str, ...]:
    """Say in which sections an argument's objects are looked for first."""
    role = "layers" if key == "layers" else _role(key)
    return () if role is None or role not in catalog().sections else (role,)


def _role(name: str) -> str | None:
    for ending in ("initializer", "regularizer", "constraint"):
        if name.endswith(f"_{ending}"):
            return f"{ending}s"
    return _ROLES.get(name)


def _model_faults(config: Mapping[str, Any], at: Loc) -> Iterator[Fault]:
    """Walk a Sequential's or Functional's own config: its layers may be operations and models too."""
    layers = config.get("layers")
    if not isinstance(layers, (list, tuple)) or not layers:
        yield Fault((*at, "layers"), "expected a list of at least one layer")
        return
    for i, layer in enumerate(layers):
        yield from object_faults(layer, "layers", "models", "operations", at=(*at, "layers", i))
    for key, value in config.items():
        if key in _FORBIDDEN_ARGUMENTS and value is not None:
            yield Fault((*at, key), _FORBIDDEN_ARGUMENTS[key])
        elif key != "layers":
            yield from _data_faults(value, (*at, key))


def _data_faults(value: Any, at: Loc) -> Iterator[Fault]:  # noqa: ANN401
    """Walk plain data; an object inside it must still be one of the catalogue's, of whichever section."""
    if isinstance(value, (list, tuple)):
        for i, child in enumerate(value):
            yield from _data_faults(child, (*at, i))
    elif isinstance(value, Mapping):
        if "class_name" not in value:
            for key, child in value.items():
                yield from _data_faults(child, (*at, key))
        elif isinstance(value["class_name"], str) and value["class_name"] in _PLAIN_OBJECTS:
            yield from _plain_object_faults(value, at)
        else:
            yield from object_faults(value, *catalog().sections, at=at)


def _plain_object_faults(value: Mapping[str, Any], at: Loc) -> Iterator[Fault]:
    modules = _PLAIN_OBJECTS[value["class_name"]]
    if value.get("module") not in (None, *modules):
        yield Fault((*at, "module"), f"{value['class_name']} doesn't live in {_shown(value['module'])}")
    if value.get("registered_name") not in (None, value["class_name"]):
        yield Fault((*at, "registered_name"), "must be absent, null or the class's name")
    yield from _data_faults(value.get("config"), (*at, "config"))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
