"""Models that start from a published version: its layers and weights, some of them frozen, some replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.architecture import PLUGIN, VERSION, Base, ModelOptions, Shape, restored
from trainer.chain import Layer, made
from trainer.errors import SpecUnbuildableError
from trainer.forms import Count, at_least, one_message

if TYPE_CHECKING:
    import keras

KIND = VERSION
LAST = 2**31 - 1
"""No version has a higher number."""
_Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class Options(ModelOptions):
    """A published version by name and number, by default the latest; what of it is frozen and replaced.

    `freeze` says which layers are not trained, and that all others are: those of the names or patterns
    (`conv*`, `encoder/*` within a nested model), or the first so many, input layers not counted. Left out,
    layers are as trainable as they were. `head` are layers in place of the last one, or of all that follow
    the layer called `cut_after`.
    """

    kind: Literal["version"]
    name: Annotated[str, Field(min_length=1, max_length=63)]
    version: Annotated[Count, Field(le=LAST)] | None = None
    freeze: Annotated[
        Annotated[int, Field(strict=True, ge=0)] | _Pattern | tuple[_Pattern, ...] | None,
        one_message("expected a number of layers, a pattern of names, or a list of patterns"),
    ] = None
    head: Annotated[tuple[Layer, ...], at_least(1)] | None = None
    cut_after: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _cut_for_a_head(self) -> Options:
        if self.cut_after is not None and self.head is None:
            raise ValueError("cut_after says where a new head begins: give head, or leave it out")
        return self


def build(options: Options, rows: Mapping[str, Shape] | None, base: Base | None = None) -> keras.Model:
    """Build the version's model, give it its weights, freeze and replace what the options say."""
    if base is None:
        raise SpecUnbuildableError(
            f"version {options.version} of {options.name} is not at hand", location={"pointer": "/model/name"}
        )
    model = restored(base, rows)
    if options.freeze is not None:
        _freeze(model, options.freeze)
    if options.head is not None:
        model = _with_head(model, base, options.head, options.cut_after)
    if model.built and not model.trainable_variables:
        raise SpecUnbuildableError(
            "every layer is frozen, so there is nothing to train",
            remedy="Freeze fewer layers, or give a head.",
            location={"pointer": "/model/freeze"},
        )
    return model


def _freeze(model: keras.Model, wanted: int | str | tuple[str, ...]) -> None:
    """Leave exactly these layers out of training."""
    model.trainable = True
    if isinstance(wanted, int):
        layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
        if wanted > len(layers):
            raise SpecUnbuildableError(
                f"the model has {len(layers)} layers. Received: {wanted}",
                location={"pointer": "/model/freeze"},
            )
        for layer in layers[:wanted]:
            layer.trainable = False
        return
    patterns = (wanted,) if isinstance(wanted, str) else wanted
    named = list(_by_path(model))
    for index, pattern in enumerate(patterns):
        found = [layer for path, layer in named if fnmatchcase(path, pattern)]
        if not found:
            raise SpecUnbuildableError(
                f"no layer is called {pattern!r}; there are {', '.join(path for path, _ in named)}",
                location={"pointer": "/model/freeze" + ("" if isinstance(wanted, str) else f"/{index}")},
            )
        for layer in found:
            layer.trainable = False


def _by_path(model: keras.Model, above: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yield every layer with its name, those of nested models as `outer/inner`."""
    import keras

    for layer in model.layers:
        path = above + layer.name
        yield path, layer
        if isinstance(layer, keras.Model):
            yield from _by_path(layer, f"{path}/")


def _with_head(
    model: keras.Model, base: Base, head: tuple[dict[str, Any], ...], cut_after: str | None
) -> keras.Model:
    """Return the model up to the cut, the head's layers after it."""
    import keras

    if base.model.kind == PLUGIN or not model.built:
        raise SpecUnbuildableError(
            "a model that a plugin built has no last layer to replace",
            remedy="Have the plugin take an argument for it.",
            location={"pointer": "/model/head"},
        )
    tensor = _cut(model, cut_after)
    taken = {layer.name for layer in model.layers}
    for index, description in enumerate(head):
        pointer = f"/model/head/{index}"
        try:
            tensor = made(_named(description, taken), pointer)(tensor)
        except SpecUnbuildableError:
            raise
        except Exception as error:  # Keras and TensorFlow raise many kinds for a shape that doesn't fit
            raise SpecUnbuildableError(
                f"{description['class_name']} can't follow on {tuple(tensor.shape)}: {error}",
                location={"pointer": pointer},
            ) from error
    inputs = model.inputs
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], tensor, name=model.name)


def _cut(model: keras.Model, cut_after: str | None) -> keras.KerasTensor:
    """Return what the head's first layer is given."""
    names = [layer.name for layer in model.layers]
    if cut_after is not None and cut_after not in names:
        raise SpecUnbuildableError(
            f"no layer is called {cut_after!r}; there are {', '.join(names)}",
            location={"pointer": "/model/cut_after"},
        )
    given = model.get_layer(cut_after).output if cut_after is not None else model.layers[-1].input
    if isinstance(given, list) or (cut_after is None and len(model.outputs) > 1):
        raise SpecUnbuildableError(
            "the model doesn't end as a chain, so it isn't plain what a head would follow",
            remedy="Name the layer in cut_after.",
            location={"pointer": "/model/head"},
        )
    return given


def _named(layer: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """Name a layer that has no name of its own like no other: Keras would begin to count anew."""
    config = layer.get("config") or {}
    if config.get("name") is None:
        stem = f"head_{layer['class_name'].rpartition('>')[2].lower()}"
        name, number = stem, 1
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        config = {**config, "name": name}
    taken.add(config["name"])
    return {**layer, "config": config}
