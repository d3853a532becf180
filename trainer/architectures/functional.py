"""Models from the document that `model.to_json()` writes: Functional graphs, or a Sequential."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from trainer.architecture import Base, ModelOptions, Shape
from trainer.errors import SpecUnbuildableError
from trainer.forms import Fault, invalid
from trainer.objects import completed, object_faults, size_faults

if TYPE_CHECKING:
    import keras

KIND = "keras"


def _document(value: Any) -> dict[str, Any]:  # noqa: ANN401  # an object, or its JSON text
    """Parse and check the document; how it was compiled is left out, the spec itself says that."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise invalid(
                "document", [Fault((), f"not the JSON that model.to_json() writes: {error}")], value
            ) from None
    if isinstance(value, Mapping):
        value = {key: part for key, part in value.items() if key != "compile_config"}
    faults = size_faults(value) or list(object_faults(value, "models"))
    if faults:
        raise invalid("document", faults, value)
    return dict(value)


class Options(ModelOptions):
    """What `model.to_json()` writes, as an object or as the string itself."""

    kind: Literal["keras"]
    config: Annotated[dict[str, Any], BeforeValidator(_document)]


def build(options: Options, rows: Mapping[str, Shape] | None, base: Base | None = None) -> keras.Model:  # noqa: ARG001
    """Deserialize the document; a Sequential without an input is built on the data's rows."""
    import keras

    try:
        model = keras.saving.deserialize_keras_object(completed(options.config), safe_mode=True)
        if not model.built and rows is not None and len(rows) == 1:
            model.build((None, *next(iter(rows.values()))))
    except Exception as error:  # Keras and TensorFlow raise many kinds for a graph that doesn't fit
        raise SpecUnbuildableError(str(error), location={"pointer": "/model/config"}) from error
    if not isinstance(model, keras.Model) or (rows is not None and not model.built):
        raise SpecUnbuildableError(
            "the document describes no buildable model", location={"pointer": "/model/config"}
        )
    return model
