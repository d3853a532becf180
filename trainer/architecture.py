"""The contract of a model kind: what its options are, and how they become a built Keras model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

from trainer.discovery import discover
from trainer.errors import SpecUnbuildableError
from trainer.forms import SpecModel
from trainer.variables import optimizers_of

if TYPE_CHECKING:
    import keras

    from trainer.fitted import Fitted

Shape = tuple[int | None, ...]
PLUGIN = "plugin"
"""The kind whose models may bring their own loss, labels and optimizers."""
VERSION = "version"
"""The kind whose models start from a published version."""


class ModelOptions(SpecModel):
    """What every model section has in common."""

    kind: str


@dataclass(frozen=True)
class Base:
    """A published version to start from: its model section, which names no other version, and its weights.

    `weights` is the file that Keras's `save_weights` wrote, None where only the model's form is asked for;
    `fitted` is how columns become its inputs and targets, None where the model takes them as they are.
    """

    model: ModelOptions
    weights: Path | None
    fitted: Fitted | None = None

    @staticmethod
    def of(section: Mapping[str, Any], weights: Path | None, fitted: Fitted | None = None) -> Base:
        """Read the model section that `recorded` wrote."""
        return Base(architectures()[section["kind"]].Options.model_validate(section), weights, fitted)


@dataclass(frozen=True)
class TensorInfo:
    """A model's input or output: its name, its shape with the batch as None, its dtype by NumPy's name."""

    name: str
    shape: Shape
    dtype: str


class Architecture(Protocol):
    """A module of `trainer.architectures`: it names its kind and builds a model."""

    KIND: str
    Options: type[ModelOptions]

    @staticmethod
    def build(
        options: Any,  # noqa: ANN401  # its own Options
        rows: Mapping[str, Shape] | None,
        base: Base | None = None,
    ) -> keras.Model:
        """Build the model for inputs of these names and row shapes; SpecUnbuildableError names the layer.

        Where nobody knows the rows, as far as the options themselves say the shapes. `base` is the version
        that the options name, if they name one.
        """


@cache
def architectures() -> dict[str, Architecture]:
    """Return every architecture by its kind."""
    found = discover("trainer.architectures", "KIND", "Options", "build")
    return {kind: cast("Architecture", module) for kind, module in found.items()}


def build(options: ModelOptions, rows: Mapping[str, Shape] | None, base: Base | None = None) -> keras.Model:
    """Build the model a spec describes for data whose rows have these shapes, by input name.

    Without them it is as far built as its own description goes. `base` is the version it starts from, where
    the spec names one.

    Raises:
        SpecUnbuildableError: Keras refuses the description, or it doesn't take these inputs.
    """
    model = architectures()[options.kind].build(options, rows, base)
    if rows is not None:
        _match(model, rows)
    return model


def restored(base: Base, rows: Mapping[str, Shape] | None) -> keras.Model:
    """Build a version's model as it was published, with its weights where their file is known.

    Raises:
        SpecUnbuildableError: it can't be built any more, or the weights aren't those of this model.
    """
    model = build(base.model, rows)
    if base.weights is None:
        return model
    # The file may hold what optimizers kept, but training begins anew.
    for optimizer in optimizers_of(model).values():
        optimizer.load_own_variables = _nothing
    try:
        with warnings.catch_warnings():
            # Keras leaves what it finds no values for as it was drawn, and says so by the way.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(base.weights)
    except (OSError, ValueError, UserWarning) as error:
        raise SpecUnbuildableError(
            f"its weights can't be put into the model: {error}",
            remedy="A plugin that has changed since builds another model: install the one of that version.",
            location={"pointer": "/model/version"},
        ) from error
    return model


def _nothing(store: Any) -> None:  # noqa: ANN401  # Keras's signature
    """Load no variable."""


def recorded(options: ModelOptions, model: keras.Model, base: Base | None) -> dict[str, Any]:
    """Return the model section from which the model can be built again with nothing else at hand, JSON.

    A graph of layers is Keras's own document of it; what a plugin built needs the plugin.
    """
    origin = options if base is None else base.model
    if origin.kind == PLUGIN:
        return origin.model_dump(mode="json")
    document = json.loads(model.to_json())
    # With it Keras would make an optimizer as well, and miss that in the weights' file.
    document.pop("compile_config", None)
    return {"kind": "keras", "config": document}


# What a subclassed model was first called with, and what it answered: Keras keeps no such record.
_DECLARED: WeakKeyDictionary[Any, tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]] = WeakKeyDictionary()


def declare(model: keras.Model, inputs: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401  # a nest
    """Remember inputs and outputs of a model that is no graph of layers; `answer` is its own structure."""
    import keras

    def info(name: str, tensor: Any) -> TensorInfo:  # noqa: ANN401
        return TensorInfo(name, tuple(tensor.shape), str(tensor.dtype))

    outputs = tuple(
        info(path[-1] if path and isinstance(path[-1], str) else f"output_{i}", tensor)
        for i, (path, tensor) in enumerate(keras.tree.flatten_with_path(answer))
    )
    _DECLARED[model] = (tuple(info(name, tensor) for name, tensor in inputs.items()), outputs)


def inputs_of(model: keras.Model) -> tuple[TensorInfo, ...]:
    """Return the model's inputs in its own order."""
    if model in _DECLARED:
        return _DECLARED[model][0]
    return tuple(TensorInfo(tensor.name, tuple(tensor.shape), str(tensor.dtype)) for tensor in model.inputs)


def outputs_of(model: keras.Model) -> tuple[TensorInfo, ...]:
    """Return the model's outputs in its own order; a Sequential's is called as its last layer."""
    if model in _DECLARED:
        return _DECLARED[model][1]
    names = model.output_names if hasattr(model, "output_names") else [model.layers[-1].name]
    return tuple(
        TensorInfo(name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in zip(names, model.outputs, strict=True)
    )


def _match(model: keras.Model, rows: Mapping[str, Shape]) -> None:
    takes = inputs_of(model)
    if len(takes) != len(rows):
        raise SpecUnbuildableError(
            f"the model has {len(takes)} inputs ({', '.join(info.name for info in takes)}), "
            f"data.features gives {len(rows)} ({', '.join(rows)})",
            remedy="Name one entry of data.features for each input of the model.",
            location={"pointer": "/data/features"},
        )
    names = {info.name for info in takes}
    if len(takes) > 1 and names != rows.keys():
        raise SpecUnbuildableError(
            f"the model's inputs are called {', '.join(sorted(names))}, "
            f"data.features has {', '.join(sorted(rows))}",
            remedy="Give data.features as an object with the model's input names.",
            location={"pointer": "/data/features"},
        )
    for info in takes:
        shape = rows[info.name] if len(takes) > 1 else next(iter(rows.values()))
        check_shape(info.name, info.shape[1:], shape)


def check_shape(name: str, takes: Shape, shape: Shape) -> None:
    """Compare the shape of one row with what the model takes, None standing for any size.

    Raises:
        SpecUnbuildableError: they differ.
    """
    if len(takes) == len(shape) and all(a is None or a == b for a, b in zip(takes, shape, strict=True)):
        return
    hint = (
        "Save the images with their channel axis, or put a Reshape layer first without an input shape."
        if len(takes) == len(shape) + 1
        else "Make the input's shape that of one row of the data."
    )
    raise SpecUnbuildableError(
        f"the rows of the data have shape {shape}, the model's input {name!r} takes {takes}", remedy=hint
    )
