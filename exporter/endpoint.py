"""How a trained Keras model is called by name: the one place where names meet Keras's structures.

Names that the user gave are kept. Where Keras numbered a tensor by itself (`keras_tensor_3`, `dense_1`), the
number depends on what else the process built, so a lone input takes the name of its data and an output takes
Keras's own export name: `output_0` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from exporter.arrays import plain
from exporter.errors import ExportFailedError

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    from exporter.format import Arrays
    from exporter.preparation import Preparation

    DecodeImages: TypeAlias = Callable[[tf.Tensor, int, int, int], tf.Tensor]
    """Encoded images, string (rows,), height, width and channels to pixels, uint8, of such a shape."""

# Whatever Keras nests its tensors in: one alone, a list or a dict of them. It has no type for that.
Nest: TypeAlias = Any

_NUMBERED_INPUT = re.compile(r"^(keras_tensor|input_layer|input)(_\d+)?$")
_NUMBER = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Input:
    """One input tensor: `shape` includes the free batch as None, `dtype` is a TensorFlow dtype's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


# Compared by identity: tf.function hashes the object whose method it traces.
@dataclass(frozen=True, eq=False)
class Endpoint:
    """A model with the names of its inputs and outputs, in the order of its flattened argument and answer.

    `fit_outputs` are the names by which `fit` knows the outputs, as in a dict of losses or targets.
    `preparation` makes requests' columns into the inputs, None where requests send the inputs themselves.
    `class_names` are those of the one output's classes, by number, where they are known.
    """

    model: keras.Model
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    fit_outputs: tuple[str, ...]
    nesting: Nest
    preparation: Preparation | None = None
    class_names: tuple[str, ...] | None = None
    decode_images: DecodeImages | None = None

    @classmethod
    def of(
        cls,
        model: keras.Model,
        features: Arrays,
        preparation: Preparation | None = None,
        *,
        class_names: Sequence[str] | None = None,
        decode_images: DecodeImages | None = None,
    ) -> Endpoint:
        """Read the names off a built model; `features` are rows of its data, which tell a subclassed one's.

        Raises:
            ExportFailedError: the features lack an input, or two outputs would share a name.
        """
        nesting, inputs = _inputs(model, features)
        outputs, fit_outputs = _outputs(model, nesting, _bind(inputs, features))
        if len(set(outputs)) < len(outputs):
            raise ExportFailedError(
                "saved_model", f"two outputs share a name: {', '.join(outputs)}; rename an output layer"
            )
        return cls(
            model,
            inputs,
            outputs,
            fit_outputs,
            nesting,
            preparation,
            None if class_names is None else tuple(class_names),
            decode_images,
        )

    def bind(self, features: Arrays) -> Arrays:
        """Give the rows the names, dtypes and ranks of the inputs.

        Raises:
            ExportFailedError: an input isn't among the features.
        """
        return _bind(self.inputs, features)

    def bind_targets(self, targets: Arrays | npt.NDArray[Any] | None) -> Arrays:
        """Give the targets the names of the outputs; an output without targets is left out.

        Raises:
            ExportFailedError: the targets name an output that the model doesn't have.
        """
        if targets is None:
            return {}
        if not isinstance(targets, Mapping):
            return {self.outputs[0]: targets} if len(self.outputs) == 1 else {}
        known = dict(zip(self.fit_outputs, self.outputs, strict=True)) | {name: name for name in self.outputs}
        if unknown := sorted(targets.keys() - known.keys()):
            raise ExportFailedError(
                "saved_model", f"targets name no output: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return {known[name]: array for name, array in targets.items()}

    def predict(self, bound: Arrays, batch_size: int) -> Arrays:
        """Ask the live model, with `bind`'s rows."""
        return dict(zip(self.outputs, _predict(self.model, self.nesting, bound, batch_size)[1], strict=True))

    def predict_request(self, columns: Arrays, batch_size: int) -> Arrays:
        """Ask the live model, with rows as requests send them."""
        import tensorflow as tf

        if self.preparation is None:
            return self.predict(self.bind(columns), batch_size)
        prepared = self.preparation.tensors({name: tf.constant(array) for name, array in columns.items()})
        return self.predict(
            self.bind({name: tensor.numpy() for name, tensor in prepared.items()}), batch_size
        )

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, *tensors: Any) -> dict[str, Any]:
        """Call the model for inference with the inputs in order: the function traced into the signature."""
        import keras

        answer = self.model(keras.tree.pack_sequence_as(self.nesting, list(tensors)), training=False)
        return dict(zip(self.outputs, keras.tree.flatten(answer), strict=True))

    def serve_request(self, *columns: Any) -> dict[str, Any]:
        """Call the model with what a request sends, in the order of `request_specs`, prepared if need be."""
        import tensorflow as tf

        if self.preparation is None:
            return self.serve(*columns)
        names = [spec.name for spec in self.preparation.signature()]
        prepared = self.preparation.tensors(dict(zip(names, columns, strict=True)))
        if len(self.inputs) == 1:
            prepared = {self.inputs[0].name: next(iter(prepared.values()))}
        return self.serve(*(tf.cast(prepared[each.name], each.dtype) for each in self.inputs))

    def request_specs(self) -> list[tf.TensorSpec]:
        """Describe what requests send: columns to be prepared, or the inputs themselves."""
        return self.tensor_specs() if self.preparation is None else self.preparation.signature()

    @cached_property
    def output_specs(self) -> Mapping[str, tf.TensorSpec]:
        """Describe the outputs by name."""
        import tensorflow as tf

        serve = tf.function(self.serve, input_signature=self.tensor_specs(), autograph=False)
        specs: Mapping[str, tf.TensorSpec] = serve.get_concrete_function().structured_outputs
        return specs

    def tensor_specs(self) -> list[Any]:
        """Describe the inputs as `tf.TensorSpec`, which carry the names into the signature."""
        import tensorflow as tf

        return [tf.TensorSpec(each.shape, each.dtype, name=each.name) for each in self.inputs]


def _inputs(model: keras.Model, features: Arrays) -> tuple[Nest, tuple[Input, ...]]:
    """Find how the model's argument is nested and what its leaves are called."""
    import keras

    if getattr(model, "inputs", None) is None:
        # A subclassed model: called as it was fitted, with one tensor or with a dict by name.
        nesting: Nest = dict(features) if len(features) > 1 else next(iter(features.values()))
        names = sorted(features) if len(features) > 1 else list(features)
        arrays = keras.tree.flatten(nesting)
        return nesting, tuple(
            Input(name, (None, *array.shape[1:]), _dtype_of(array))
            for name, array in zip(names, arrays, strict=True)
        )
    nesting = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    leaves = [(_key(path) or leaf.name, leaf) for path, leaf in keras.tree.flatten_with_path(nesting)]
    if len(leaves) == 1 and len(features) == 1 and _NUMBERED_INPUT.match(leaves[0][0]):
        leaves = [(next(iter(features)), leaves[0][1])]
    return nesting, tuple(Input(name, (None, *leaf.shape[1:]), str(leaf.dtype)) for name, leaf in leaves)


def _outputs(model: keras.Model, nesting: Nest, bound: Arrays) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the outputs' names and those by which `fit` knows them."""
    import keras

    if getattr(model, "inputs", None) is None:
        paths, _ = _predict(model, nesting, {name: array[:1] for name, array in bound.items()}, 1)
        names = tuple(_key(path) or f"output_{index}" for index, path in enumerate(paths))
        return names, names
    if isinstance(model, keras.Sequential):
        keys: list[str | None] = [None]
        layers = [model.layers[-1].name]
    else:
        keys = [_key(path) for path, _ in keras.tree.flatten_with_path(model.output)]
        layers = list(model.output_names)
    names = tuple(
        key or (f"output_{index}" if _is_numbered(model.get_layer(layer)) else layer)
        for index, (key, layer) in enumerate(zip(keys, layers, strict=True))
    )
    return names, tuple(key or layer for key, layer in zip(keys, layers, strict=True))


def _key(path: Sequence[object]) -> str | None:
    """Take the name from a place in a structure: a dict's key is one, a position isn't."""
    return path[-1] if path and isinstance(path[-1], str) else None


def _is_numbered(layer: keras.layers.Layer) -> bool:
    """Tell whether Keras made the layer's name, which it does from the class: Dense becomes dense_1."""
    return _NUMBER.sub("", layer.name).replace("_", "") == type(layer).__name__.lower()


def _predict(
    model: keras.Model, nesting: Nest, bound: Arrays, batch_size: int
) -> tuple[list[Sequence[object]], list[npt.NDArray[Any]]]:
    import keras
    import tensorflow as tf

    # Keras takes strings as tensors only.
    leaves = [tf.constant(array) if array.dtype.kind == "U" else array for array in bound.values()]
    packed = keras.tree.pack_sequence_as(nesting, leaves)
    answer = model.predict(packed, batch_size=batch_size, verbose=0)
    answers = keras.tree.flatten_with_path(answer)
    return [path for path, _ in answers], [plain(np.asarray(leaf)) for _, leaf in answers]


def _bind(inputs: Sequence[Input], features: Arrays) -> Arrays:
    if len(inputs) == 1 and len(features) == 1:
        features = {inputs[0].name: next(iter(features.values()))}
    if missing := [each.name for each in inputs if each.name not in features]:
        raise ExportFailedError(
            "saved_model",
            f"the held-out rows lack the model's input {', '.join(missing)}; they have {', '.join(features)}",
        )
    return {each.name: _fitted(features[each.name], each) for each in inputs}


def _fitted(array: npt.NDArray[Any], to: Input) -> npt.NDArray[Any]:
    """Cast the rows as Keras would; the runtimes of the artifacts take nothing but the exact form."""
    if array.ndim == 1 and len(to.shape) == 2:
        array = array[:, np.newaxis]
    # numpy has no string dtype of free width that a file could hold: U is as wide as the longest.
    return array.astype(str) if to.dtype == "string" else array.astype(to.dtype, copy=False)


def _dtype_of(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind in "OSU":
        return "string"
    return "float32" if array.dtype.kind == "f" else str(array.dtype)
