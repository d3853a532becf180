"""Mixed precision: what a layer computes in while it trains; weights, outputs and exports are float32."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


class Precision(StrEnum):
    """Keras's dtype policies, by its names."""

    FLOAT32 = "float32"
    """Everything in 32 bits."""
    MIXED_FLOAT16 = "mixed_float16"
    """Layers compute in float16, and the loss is scaled so that small gradients don't vanish; for GPUs."""
    MIXED_BFLOAT16 = "mixed_bfloat16"
    """Layers compute in bfloat16, which has float32's range; for TPUs, recent GPUs and CPUs."""


def compute_in(model: keras.Model, precision: Precision) -> None:
    """Have every layer that computes in float32, or by another such policy, compute in this one.

    Layers whose own config asks for something else keep to it. The layers that give the outputs stay in
    float32: a softmax over float16 loses what the loss needs, and clients are sent what they asked for.
    """
    import keras

    policies = {each.value for each in Precision}
    last = {id(layer) for layer in _output_layers(model)}
    for layer in (*model._flatten_layers(include_self=False), model):
        if layer.dtype_policy.name in policies:
            name = Precision.FLOAT32.value if id(layer) in last else precision.value
            if layer.dtype_policy.name != name:
                layer.dtype_policy = keras.dtype_policies.get(name)
    # They were traced with the other policy.
    model.train_function = model.test_function = model.predict_function = None


def _output_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers that give the outputs, those within nested models as well."""
    import keras

    if isinstance(model, keras.Sequential):
        found = [model.layers[-1]]
    elif hasattr(model, "outputs"):
        found = [tensor._keras_history.operation for tensor in model.outputs]
    else:  # subclassed: only it knows
        return []
    inner = [layer for each in found if isinstance(each, keras.Model) for layer in _output_layers(each)]
    return [*(each for each in found if isinstance(each, keras.Layer)), *inner]
