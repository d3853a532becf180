"""Models that a plugin builds: subclassed ones, with a `train_step` of their own, with several optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from trainer.architecture import PLUGIN, Base, ModelOptions, Shape, declare
from trainer.errors import SpecUnbuildableError
from trainer.forms import invalid, nearest
from trainer.objects import size_faults

if TYPE_CHECKING:
    import keras

KIND = PLUGIN


def _data(value: dict[str, Any]) -> dict[str, Any]:
    if faults := size_faults(value):
        raise invalid("args", faults, value)
    return value


class Options(ModelOptions):
    """A plugin by name, and its arguments as its schema says."""

    kind: Literal["plugin"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    args: Annotated[dict[str, Any], AfterValidator(_data)] = Field(default_factory=dict)


def build(options: Options, rows: Mapping[str, Shape] | None, base: Base | None = None) -> keras.Model:  # noqa: ARG001
    """Have the plugin build the model, and call it once on symbols so that it has its weights."""
    import keras

    from trainer.plugin import built, plugins

    plugin = plugins().get(options.name)
    if plugin is None:
        raise SpecUnbuildableError(
            f"the worker that took this job has no plugin {options.name!r}{nearest(options.name, plugins())}",
            location={"pointer": "/model/name"},
        )
    try:
        arguments = plugin.Arguments.model_validate(options.args)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(str(part) for part in first["loc"])
        raise SpecUnbuildableError(first["msg"], location={"pointer": f"/model/args/{place}"}) from error
    try:
        model = plugin.build(**dict(arguments))
        built(model, plugin)
        step = getattr(plugin, "step", None)
        if step is not None:
            model.train_step = lambda data: step(model, data)
        if getattr(model, "inputs", None) is None and rows is not None:
            dtypes = getattr(plugin, "INPUT_DTYPES", {})
            inputs = {
                name: keras.Input(shape, name=name, dtype=dtypes.get(name)) for name, shape in rows.items()
            }
            declare(model, inputs, model(inputs if len(inputs) > 1 else next(iter(inputs.values()))))
    except Exception as error:  # whatever the plugin's author lets through
        raise SpecUnbuildableError(
            f"plugin {options.name} can't build it: {type(error).__name__}: {error}",
            location={"pointer": "/model/args"},
        ) from error
    return model
