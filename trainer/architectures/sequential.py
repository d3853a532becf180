"""Sequential models from a list of layers; the input's shape comes from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainer.architecture import Base, ModelOptions, Shape, check_shape
from trainer.chain import Layer, made
from trainer.errors import SpecUnbuildableError
from trainer.forms import Count, at_least

if TYPE_CHECKING:
    import keras

KIND = "sequential"
# Layers that read numbers as positions: their input is of integers.
_INTEGER_INPUT = frozenset({"Embedding", "Hashing", "IntegerLookup", "ReversibleEmbedding"})


class Options(ModelOptions):
    """A chain of layers in Keras's serialized form; `input_shape` is that of one row, without the batch."""

    kind: Literal["sequential"]
    layers: Annotated[tuple[Layer, ...], at_least(1)]
    input_shape: tuple[Count | None, ...] | None = None


def build(options: Options, rows: Mapping[str, Shape] | None, base: Base | None = None) -> keras.Model:  # noqa: ARG001
    """Build the chain on one input, named as the data name it."""
    if rows is None:
        return _alone(options)
    if len(rows) != 1:
        raise SpecUnbuildableError(
            f"a Sequential model has one input, data.features gives {len(rows)}",
            remedy='Use "kind": "keras" with a Functional document for several inputs.',
            location={"pointer": "/data/features"},
        )
    ((name, shape),) = rows.items()
    if options.input_shape is not None:
        check_shape(name, options.input_shape, shape)
        shape = options.input_shape
    try:
        return _chain(options.layers, name, shape)
    except SpecUnbuildableError:
        raise
    except Exception as error:  # Keras and TensorFlow raise many kinds for a shape that doesn't fit
        index = _culprit(options.layers, name, shape)
        raise SpecUnbuildableError(
            f"layer {index} ({options.layers[index]['class_name']}) can't be built on rows of shape {shape}: "
            f"{error}",
            location={"pointer": f"/model/layers/{index}"},
        ) from error


def _alone(options: Options) -> keras.Model:
    """Build what the options say by themselves: on `input_shape`, or the bare layers."""
    import keras

    if options.input_shape is not None:
        return build(options, {"features": options.input_shape})
    return keras.Sequential(_made(options.layers))


def _chain(layers: Sequence[dict[str, Any]], name: str, shape: Shape) -> keras.Model:
    import keras

    first = layers[0]["class_name"]
    head = []
    if first != "InputLayer":
        dtype = "int32" if first in _INTEGER_INPUT else "float32"
        head = [keras.Input(shape=shape, name=name, dtype=dtype)]
    return keras.Sequential([*head, *_made(layers)])


def _made(layers: Sequence[dict[str, Any]]) -> list[keras.Layer]:
    return [made(layer, f"/model/layers/{index}") for index, layer in enumerate(layers)]


def _culprit(layers: Sequence[dict[str, Any]], name: str, shape: Shape) -> int:
    """Find the first layer with which the chain can't be built; only a failure pays for this."""
    for end in range(1, len(layers)):
        try:
            _chain(layers[:end], name, shape)
        except Exception:  # the error itself was caught by the caller
            return end - 1
    return len(layers) - 1
