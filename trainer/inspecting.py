"""What a model is, told without training it and without taking memory for it: Keras's `summary()` as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MethodType
from typing import TYPE_CHECKING, Any

from trainer.architecture import PLUGIN, Base, ModelOptions, Shape, build
from trainer.compiling import CompileOptions, optimizer_of
from trainer.errors import SpecUnbuildableError

if TYPE_CHECKING:
    import keras

WIDTHS = {"float32": 4, "float16": 2, "int8": 1}
# They give what they were given, in another shape at most: nothing of their own is kept of them.
_VIEWS = frozenset({"InputLayer", "Flatten", "Reshape", "Permute"})
# An answer is kept for the backward pass, its gradient comes back to it, and kernels want room beside. A
# recurrent layer keeps the gates of every step. Measured on a CPU, as how much a process grew at its peak.
_KEPT = 2.5
_KEPT_A_STEP = {"LSTM": 10, "GRU": 8, "SimpleRNN": 3}
# Between gradient and new weight an optimizer makes that many values of the gradient's size.
_MADE_IN_UPDATE = 2


@dataclass(frozen=True)
class Sketch:
    """A model of which every shape is known and no value was made, and the optimizer that would train it."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer | None

    @property
    def kept_bytes(self) -> int:
        """What training keeps of it from the first step to the last: weights, gradients, optimizer slots."""
        slots = [] if self.optimizer is None else self.optimizer.variables
        return sum(map(_bytes, (self.model.variables, self.model.trainable_variables, slots)))


def sketch(
    options: ModelOptions,
    rows: Mapping[str, Shape] | None,
    *,
    how: CompileOptions | None = None,
    base: Base | None = None,
) -> Sketch:
    """Build a model without its weights, however many there are; `rows` as `inspect` takes them.

    A plugin that needs values to build its model gets them.

    Raises:
        SpecUnbuildableError: Keras refuses the description.
    """
    optimizer = None if how is None else optimizer_of(how)
    shape = None if base is None else replace(base, weights=None)
    with _without_values():
        try:
            model = build(options, rows, shape)
        except SpecUnbuildableError:
            if PLUGIN not in (options.kind, shape and shape.model.kind):
                raise
            model = None
        if optimizer is not None and model is not None and model.built:
            _build(optimizer, model.trainable_variables)
    if model is None:
        model = build(options, rows, shape)
        if optimizer is not None and model.built and not model.compiled:
            optimizer.build(model.trainable_variables)
    return Sketch(model, optimizer)


def inspect(
    options: ModelOptions,
    rows: Mapping[str, Shape] | None,
    *,
    how: CompileOptions | None = None,
    batch_size: int = 32,
    base: Base | None = None,
) -> dict[str, Any]:
    """Describe a model, JSON; `rows` are the shapes of one row by input name, or None if nobody knows them.

    `base` is the version that it starts from, if any. See `sketch` and `describe`.
    """
    return describe(sketch(options, rows, how=how, base=base), batch_size)


def describe(sketched: Sketch, batch_size: int) -> dict[str, Any]:
    """Describe a sketched model, JSON.

    The bytes of training are an estimate of its peak beside the process itself and the data: weights,
    gradients, the optimizer's slots and what it makes in an update, and what layers keep of a batch.
    """
    model, optimizer = sketched.model, sketched.optimizer
    layers = [_described(layer) for layer in model.layers]
    described = {"class_name": type(model).__name__, "built": bool(model.built), "layers": layers}
    if not model.built:
        # As Keras itself: layers are built from the first shape they see.
        return described | {"detail": "nothing says the shape of a row, so the layers have no weights yet"}
    parameters, trainable = _count(model.weights), _count(model.trainable_weights)
    largest = max(layers, key=lambda layer: int(layer["parameters"]), default=None)
    memory = {
        "weights": _bytes(model.variables),
        "gradients": _bytes(model.trainable_variables),
        "optimizer": 0 if optimizer is None else _bytes(optimizer.variables),
        "update": _MADE_IN_UPDATE * _bytes(model.trainable_variables),
        "activations": batch_size * sum(_kept_bytes(layer) for layer in _leaves(model)),
    }
    return described | {
        "parameters": parameters,
        "trainable_parameters": trainable,
        "non_trainable_parameters": parameters - trainable,
        "largest_layer": None if largest is None else largest["name"],
        "weight_bytes": {name: parameters * width for name, width in WIDTHS.items()},
        "training_bytes": {"batch_size": batch_size, **memory, "total": sum(memory.values())},
    }


@contextmanager
def _without_values() -> Iterator[None]:
    """Have variables know their shapes and hold nothing: Keras's own way to trace a layer that makes some."""
    import keras
    from keras.src.backend.common import global_state

    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Else the next such scope would give them their values.
        global_state.set_global_attribute("uninitialized_variables", [])


def _build(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Have the optimizer make its slots for variables that hold nothing."""
    from keras.src.optimizers.base_optimizer import BaseOptimizer

    # TensorFlow's own versions ask a variable for its value, to know it again and to put slots beside it.
    optimizer._var_key = id
    optimizer.add_variable_from_reference = MethodType(BaseOptimizer.add_variable_from_reference, optimizer)
    optimizer.build(variables)


def _described(layer: keras.Layer) -> dict[str, Any]:
    import keras

    described: dict[str, Any] = {
        "name": layer.name,
        "class_name": type(layer).__name__,
        "output_shape": _output_shape(layer),
        "parameters": _count(layer.weights) if layer.built else None,
        "trainable": bool(layer.trainable),
    }
    if isinstance(layer, keras.Model):
        described["layers"] = [_described(each) for each in layer.layers]
    return described


def _output_shape(layer: keras.Layer) -> Any:  # noqa: ANN401  # a shape, a list of them, or nothing yet
    """Return the shape of what the layer gives where it is first used, the batch as null."""
    if not layer._inbound_nodes:
        return None
    shapes = [list(tensor.shape) for tensor in layer._inbound_nodes[0].outputs]
    return shapes[0] if len(shapes) == 1 else shapes


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    """Yield the layers of a model and of the models within it."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _kept_bytes(layer: keras.Layer) -> int:
    """Estimate what a layer keeps of one row between its forward and its backward pass."""
    import keras

    if type(layer).__name__ in _VIEWS:
        return 0
    if isinstance(layer, keras.layers.Bidirectional):
        return _kept_bytes_recurrent(layer.forward_layer, layer) * 2
    if type(layer).__name__ in _KEPT_A_STEP:
        return _kept_bytes_recurrent(layer, layer)
    kept = sum(
        math.prod(size or 1 for size in tensor.shape[1:]) * _width(tensor.dtype)
        for node in layer._inbound_nodes
        for tensor in node.outputs
    )
    return int(_KEPT * kept)


def _kept_bytes_recurrent(layer: keras.Layer, called: keras.Layer) -> int:
    """The same of a recurrent layer, called by itself or within a wrapper: something of every step."""
    steps = sum(tensor.shape[1] or 1 for node in called._inbound_nodes for tensor in node.input_tensors[:1])
    return int(
        _KEPT_A_STEP.get(type(layer).__name__, _KEPT) * steps * layer.units * _width(layer.compute_dtype)
    )


def _count(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _bytes(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) * _width(variable.dtype) for variable in variables)


def _width(dtype: str) -> int:
    import ml_dtypes  # noqa: F401  # NumPy learns the name bfloat16 by this import
    import numpy as np

    return 1 if dtype in ("bool", "string") else np.dtype(dtype).itemsize
