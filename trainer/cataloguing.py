"""Writing the catalogue down: what the installed Keras offers, by name, with the arguments of each class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.catalog import fits

Json = Any  # a JSON value; the catalogue is a generated document

# Code that arrives as data (Lambda), files from outside (TFSMLayer), other frameworks, abstract bases, and
# metrics that `compile` can't use, since they take values alone and no targets.
_LEFT_OUT = frozenset(
    {
        "Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper",
        "InputSpec", "Layer", "Wrapper", "Optimizer", "OptimizerMap", "MultiOptimizer", "LossScaleOptimizer",
        "LearningRateSchedule", "Loss", "Metric", "MeanMetricWrapper", "Initializer", "Regularizer",
        "Constraint", "Mean", "Sum",
    }
)  # fmt: skip
_SECTIONS = {
    "layers": "keras.layers",
    "optimizers": "keras.optimizers",
    "schedules": "keras.optimizers.schedules",
    "losses": "keras.losses",
    "metrics": "keras.metrics",
    "initializers": "keras.initializers",
    "regularizers": "keras.regularizers",
    "constraints": "keras.constraints",
}
# A Functional document names an operation where the user wrote `x + y` or `keras.ops.mean(x)`.
_OPERATION_MODULES = ("keras.src.ops.math", "keras.src.ops.nn", "keras.src.ops.numpy")
# Accepted by every layer, beside those its constructors name (`Layer.__init__` takes them from **kwargs).
_LAYER_EXTRAS = ("input_dim", "input_shape")
# Enough to construct most classes once, so that the keys of their `get_config()` are known as well.
_SAMPLES: Mapping[str, Json] = {
    "axes": 1, "beta": 0.5, "cropping": 1, "data": [0.0], "depth": 2, "dims": [1], "dtype": "float32",
    "equation": "ab,bc->ac", "factor": 0.1, "filters": 2, "height": 2, "width": 2, "height_factor": 0.1,
    "width_factor": 0.1, "input_dim": 2, "kernel_size": 2, "n": 2, "num_bins": 2, "num_classes": 2,
    "num_heads": 2, "num_query_heads": 2, "num_key_value_heads": 2, "head_dim": 2, "key_dim": 2,
    "num_tokens": 2, "output_dim": 2, "output_shape": 2, "output_size": 2, "pool_size": 2, "precision": 0.5,
    "rate": 0.1, "recall": 0.5, "scale": 1.0, "sensitivity": 0.5, "specificity": 0.5, "stddev": 0.1,
    "size": 2, "target_shape": [1], "target_class_ids": [0], "units": 2, "value_range": [0, 1],
    "activation": "relu", "boundaries": [1], "values": [0.1, 0.2], "decay_rate": 0.5, "decay_steps": 10,
    "first_decay_steps": 10, "initial_learning_rate": 0.1, "max_boxes": 2,
}  # fmt: skip


def describe() -> dict[str, Json]:
    """Describe the installed Keras: classes by section with their arguments, and Keras's short names."""
    import keras

    sections = {name: _section(module) for name, module in _SECTIONS.items()}
    sections["operations"] = _operations()
    sections["models"] = _models()
    return {
        "keras": keras.__version__,
        "sections": sections,
        "aliases": _aliases(),
        "activations": _activations(),
    }


def _section(module: str) -> dict[str, Json]:
    import importlib

    public = importlib.import_module(module)
    entries = {}
    for name in sorted(dir(public)):
        cls = getattr(public, name)
        if inspect.isclass(cls) and hasattr(cls, "from_config") and name not in _LEFT_OUT:
            # An old name of a class (Convolution2D) is listed under the name as well: documents may carry it.
            entries[name] = _entry(cls, [module, cls.__module__])
            own = cls.__name__
            if own != name and getattr(public, own, None) is cls:
                entries[name]["class"] = own
    return entries


def _operations() -> dict[str, Json]:
    import importlib

    import keras

    entries: dict[str, Json] = {}
    for module in _OPERATION_MODULES:
        for name, cls in sorted(vars(importlib.import_module(module)).items()):
            if inspect.isclass(cls) and issubclass(cls, keras.Operation) and cls.__module__ == module:
                entries[name] = _entry(cls, [*entries.get(name, {}).get("modules", ()), module])
    return entries


def _models() -> dict[str, Json]:
    modules = ["keras", "keras.models"]
    return {
        # Keras exports no Functional: its documents alone name it.
        "Functional": {"modules": ["keras.src.models.functional"], "arguments": None},
        "Model": {"modules": [*modules, "keras.src.models.model"], "arguments": None},
        "Sequential": {"modules": [*modules, "keras.src.models.sequential"], "arguments": None},
    }


def _entry(cls: type, modules: list[str]) -> dict[str, Json]:
    entry: dict[str, Json] = {"modules": sorted(set(modules)), "arguments": _arguments(cls)}
    indexed = _indexed(cls) & {name for name, argument in entry["arguments"].items() if "default" in argument}
    return entry | ({"indexed": sorted(indexed)} if indexed else {})


def _indexed(cls: type[Any]) -> set[str]:
    """Return the keys `from_config` reads without asking whether they are there (Rescaling's `offset`)."""
    source = inspect.getsource(cls.from_config)
    # Every layer's reads `dtype`, but asks first.
    return set(re.findall(r'config(?:\[|\.pop\()"(\w+)"[\])]', source)) - {"dtype"}


def _arguments(cls: type) -> dict[str, Json]:
    """Return the arguments of `cls` and of every base its `**kwargs` reach, and the keys of its config."""
    import keras

    texts = _documented(cls)
    arguments: dict[str, Json] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]  # any class's
        for parameter in parameters:
            if parameter.name == "self" or parameter.name in arguments:
                continue
            if parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
                continue
            # What a base requires, the subclass may well provide: only the class's own signature obliges.
            required = parameter.default is parameter.empty and base is _initializer(cls)
            arguments[parameter.name] = _argument(parameter, required, texts.get(parameter.name, ""))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    extras = set(_LAYER_EXTRAS) if issubclass(cls, keras.layers.Layer) else set()
    config = _sample_config(cls, arguments)
    for name in sorted((extras | config.keys()) - arguments.keys()):
        arguments[name] = {"type": "any"}
    for name, value in config.items():
        # Keras writes `pool_size: [2]` where its documentation says "int": its own form always passes.
        if value is not None and not fits(value, arguments[name]["type"]):
            arguments[name]["type"] = "any"
    return arguments


def _initializer(cls: type) -> type:
    return next(base for base in cls.__mro__ if "__init__" in vars(base))


def _sample_config(cls: type[Any], arguments: Mapping[str, Json]) -> dict[str, Json]:
    """Return what `get_config()` writes, and `from_config` reads, where a sample of the class can be had."""
    required = [name for name, argument in arguments.items() if argument.get("required")]
    if not set(required) <= _SAMPLES.keys():
        return {}
    try:
        config = cls(**{name: _SAMPLES[name] for name in required}).get_config()
    except (TypeError, ValueError, NotImplementedError, AttributeError, ImportError):
        return {}  # abstract, or a sample that doesn't fit: the signature alone describes it
    return dict(config)


def _argument(parameter: inspect.Parameter, required: bool, text: str) -> dict[str, Json]:
    argument: dict[str, Json] = {"type": _type(parameter, text)}
    if required:
        argument["required"] = True
    default = parameter.default
    if not required and isinstance(default, (bool, int, float, str, type(None))):
        argument["default"] = default
    elif not required and isinstance(default, (list, tuple)):
        argument["default"] = list(default)
    return argument


# Documented as one number, taken as a list of them as well.
_BROADCAST = frozenset({"axis", "offset", "scale"})
_SEVERAL = re.compile(
    r"\b(or|list|tuple|array|sequence|tensor|dict|string|str|function|callable|instance|schedule|optional)\b",
    re.IGNORECASE,
)


def _type(parameter: inspect.Parameter, text: str) -> str:
    """Name the JSON type only where Keras leaves no doubt: a wrong refusal is the worse fault."""
    if parameter.name in _BROADCAST:
        return "any"
    first = text.split(". ", maxsplit=1)[0]
    if isinstance(parameter.default, bool):
        return "boolean" if not re.search(r"\b(string|str|auto)\b", first, re.IGNORECASE) else "any"
    if _SEVERAL.search(first) or not first:
        return "any"
    if re.match(r"(positive |strictly positive )?(integer|int)\b", first, re.IGNORECASE):
        return "integer"
    if re.match(r"(a )?(small |positive |non-negative )?float\b", first, re.IGNORECASE):
        return "number"
    return "any"


def _documented(cls: type) -> dict[str, str]:
    """Read the `Args:` section of a docstring: argument name to its description on one line."""
    lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip() in {"Args:", "Arguments:"}]
    if not starts:
        return {}
    texts: dict[str, str] = {}
    name = ""
    for line in lines[starts[0] + 1 :]:
        if line and not line.startswith(" "):
            break
        found = re.match(r" {4}(\w+): ?(.*)", line)
        if found:
            name = found[1]
            texts[name] = found[2].strip()
        elif name:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def _aliases() -> dict[str, dict[str, str]]:
    """Map the strings Keras takes for a class (`adam`, `he_normal`, `mse`) to class or function names."""
    import importlib

    found = {}
    for section in ("optimizers", "losses", "metrics", "initializers", "regularizers", "constraints"):
        objects: Mapping[str, Any] = importlib.import_module(f"keras.src.{section}").ALL_OBJECTS_DICT
        found[section] = {
            name: value.__name__
            for name, value in sorted(objects.items())
            if value.__name__ not in _LEFT_OUT and value.__name__ != "LossFunctionWrapper"
        }
    # Keras chooses the kind of accuracy or crossentropy by the output's shape; these are no classes.
    found["metrics"] |= dict.fromkeys(("accuracy", "acc"), "accuracy")
    found["losses"] |= dict.fromkeys(("crossentropy", "ce"), "crossentropy")
    # `metrics.get` falls back on a function of that name, though it doesn't know all that Keras exports.
    found["metrics"] |= {name: name for name in _function_names("keras.metrics") if _is_known_metric(name)}
    return found


def _is_known_metric(name: str) -> bool:
    import keras

    try:
        return keras.metrics.get(name) is not None
    except ValueError:
        return False


def _activations() -> list[str]:
    """Return the functions that a layer can take by name.

    Those of one argument (`threshold` wants three) that keep its shape: `glu` halves the last axis, which no
    layer tells the next one.
    """
    import keras

    def fits_a_layer(name: str) -> bool:
        function = getattr(keras.activations, name)
        required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        return len(required) == 1 and function(keras.ops.zeros((1, 2))).shape == (1, 2)

    return sorted(name for name in _function_names("keras.activations") if fits_a_layer(name))


def _function_names(module: str) -> Iterator[str]:
    import importlib

    public = importlib.import_module(module)
    for name in dir(public):
        if inspect.isfunction(getattr(public, name)) and name not in {"get", "serialize", "deserialize"}:
            yield name
