"""The contract of a model kind: what its options are, and how they become a built Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

from trainer.discovery import discover
from trainer.errors import SpecUnbuildableError
from trainer.forms import SpecModel

if TYPE_CHECKING:
    import keras

Shape = tuple[int | None, ...]
PLUGIN = "plugin"
"""The kind whose models may bring their own loss, labels and optimizers."""


class ModelOptions(SpecModel):
    """What every model section has in common."""

    kind: str


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
    def build(options: Any, rows: Mapping[str, Shape] | None) -> keras.Model:  # noqa: ANN401  # its own Options
        """Build the model for inputs of these names and row shapes; SpecUnbuildableError names the layer.

        Where nobody knows the rows, as far as the options themselves say the shapes.
        """


@cache
def architectures() -> dict[str, Architecture]:
    """Return every architecture by its kind."""
    found = discover("trainer.architectures", "KIND", "Options", "build")
    return {kind: cast("Architecture", module) for kind, module in found.items()}


def build(options: ModelOptions, rows: Mapping[str, Shape] | None) -> keras.Model:
    """Build the model a spec describes for data whose rows have these shapes, by input name.

    Without them it is as far built as its own description goes.

    Raises:
        SpecUnbuildableError: Keras refuses the description, or it doesn't take these inputs.
    """
    model = architectures()[options.kind].build(options, rows)
    if rows is not None:
        _match(model, rows)
    return model


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
