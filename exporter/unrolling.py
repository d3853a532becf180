"""Recurrent layers for runtimes that know no loop over a free batch: written step by step, or row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from exporter.endpoint import Endpoint

if TYPE_CHECKING:
    import keras

STEPS = 256
"""How many steps are unrolled at most, over all layers.

An LSTM of 32 units costs 0.04 s and 2.7 kB a step on a CPU, where a loop costs none.
"""


class Unrolled(Endpoint):
    """An endpoint whose recurrent layers are traced step by step, each of them as with `unroll=True`."""

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, *tensors: Any) -> dict[str, Any]:
        """Call the model for inference with the inputs in order."""
        with _unrolling(self.model):
            return super().serve(*tensors)


def unrolled(endpoint: Endpoint) -> Endpoint:
    """Return the same model under the same names, its recurrent layers unrolled where it is traced."""
    return Unrolled(**{field.name: getattr(endpoint, field.name) for field in fields(endpoint)})


def one_row(endpoint: Endpoint) -> Endpoint:
    """Return the same model under the same names, for inputs of one row; other free sizes stay free."""
    return replace(
        endpoint, inputs=tuple(replace(each, shape=(1, *each.shape[1:])) for each in endpoint.inputs)
    )


def steps(model: keras.Model) -> Mapping[str, int | None]:
    """Return the sequence length of each recurrent layer that loops, by name; None where it is free."""
    return {layer.name: _length(layer.get_build_config()) for layer in _looping(model)}


def obstacle(model: keras.Model) -> str | None:
    """Say why the model's recurrent layers can't be unrolled; None where they can."""
    lengths = steps(model)
    if free := [name for name, length in lengths.items() if length is None]:
        return f"the sequence length of {', '.join(free)} is free"
    total = sum(filter(None, lengths.values()))
    if total > STEPS:
        return f"the recurrent layers take {total} steps in all, more than the {STEPS} that are unrolled"
    return None


@contextmanager
def _unrolling(model: keras.Model) -> Iterator[None]:
    layers = _looping(model)
    for layer in layers:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in layers:
            layer.unroll = False


def _looping(model: keras.Model) -> list[keras.layers.RNN]:
    """Find the recurrent layers, those inside of wrappers and nested models too, that aren't unrolled."""
    import keras

    return [
        layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]


# Any: Keras's own document of the shapes that a layer was built with.
def _length(built: Mapping[str, Any] | None) -> int | None:
    shapes = (built or {}).get("shapes_dict", built) or {}
    shape = shapes.get("input_shape") or shapes.get("sequences_shape") or (None, None)
    length: int | None = shape[1]
    return length
