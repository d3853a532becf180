"""Layers in Keras's serialized form, one after the other: how each is checked, and made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from trainer.errors import SpecUnbuildableError
from trainer.forms import invalid
from trainer.objects import completed, object_faults, size_faults

if TYPE_CHECKING:
    import keras


def _layer(value: dict[str, Any]) -> dict[str, Any]:
    faults = size_faults(value) or list(object_faults(value, "layers", "models"))
    if faults:
        raise invalid("layer", faults, value)
    return value


Layer = Annotated[dict[str, Any], AfterValidator(_layer)]


def made(layer: dict[str, Any], pointer: str) -> keras.Layer:
    """Make a layer that a spec describes at `pointer`.

    Raises:
        SpecUnbuildableError: its constructor refuses a value.
    """
    import keras

    try:
        return keras.saving.deserialize_keras_object(completed(layer, "layers", "models"), safe_mode=True)
    except Exception as error:  # a constructor may raise anything for a value it refuses
        raise SpecUnbuildableError(str(error), location={"pointer": pointer}) from error
