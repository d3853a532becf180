"""Whether losses fit the targets and the model's outputs, told from values and shapes before any training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.architecture import TensorInfo
from trainer.arrays import ArrayFile, extremes
from trainer.compiling import losses_by_output

if TYPE_CHECKING:
    import keras
    import numpy as np

    from trainer.compiling import CompileOptions

_SPARSE = ("sparsecategoricalcrossentropy",)
_CATEGORICAL = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge", "kldivergence")
_BINARY = ("binarycrossentropy", "binaryfocalcrossentropy")
_TWO_SIDED = ("hinge", "squaredhinge")
_COUNTS = ("poisson", "meansquaredlogarithmicerror")
_NUMBERS = ("meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror", "huber", "logcosh")
# Losses whose answers are probabilities, unless they are told to take logits, and what makes them.
_WANTS = dict.fromkeys(_SPARSE + _CATEGORICAL[:2], "softmax") | dict.fromkeys(_BINARY, "sigmoid")
_PROBABILITIES = frozenset({"softmax", "sigmoid", "hard_sigmoid", "sparsemax"})


@dataclass(frozen=True)
class Finding:
    """Something about a spec: where, what, and whether training could not go well with it."""

    pointer: str
    detail: str
    fatal: bool = True


def loss_findings(
    how: CompileOptions, model: keras.Model, outputs: Sequence[TensorInfo], targets: Mapping[str, np.ndarray]
) -> Iterator[Finding]:
    """Yield what doesn't fit between each output, its loss and its target, both of shape (rows, ...).

    A single target may be called otherwise than the output.
    """
    losses = losses_by_output(how, [info.name for info in outputs])
    activations = _activations(model)
    for index, info in enumerate(outputs):
        loss, from_logits = losses[info.name]
        target = targets.get(info.name) if len(outputs) > 1 else next(iter(targets.values()), None)
        if not loss or target is None:
            continue
        label = "/data/label" if len(outputs) == 1 else f"/data/label/{info.name}"
        kind = loss.lower().replace("_", "")
        yield from _target_findings(kind, loss, info, target, label)
        if index < len(activations):
            yield from _activation_findings(kind, loss, info, activations[index], from_logits=from_logits)


def _target_findings(
    kind: str, loss: str, info: TensorInfo, target: np.ndarray, label: str
) -> Iterator[Finding]:
    gives, has = info.shape[1:], target.shape[1:]
    if kind in _SPARSE:
        yield from _class_findings(loss, info, target, label)
    elif kind in _CATEGORICAL and not has:
        yield Finding(
            label,
            f"{loss} compares {_size(gives)} probabilities a row, the target has one number a row: "
            "class numbers go with sparse_categorical_crossentropy",
        )
    elif not _comparable(gives, has) and kind in (*_CATEGORICAL, *_BINARY, *_TWO_SIDED, *_COUNTS, *_NUMBERS):
        yield Finding(
            label, f"output {info.name!r} has rows of shape {gives}, its target of shape {has or '()'}"
        )
    if not target.size:
        return
    low, high = target.min(), target.max()
    if kind in _BINARY and (low < 0 or high > 1):
        yield Finding(label, f"{loss} takes targets from 0 to 1, these go from {low:g} to {high:g}")
    elif kind in _TWO_SIDED and (low < -1 or high > 1):
        yield Finding(label, f"{loss} takes targets from -1 to 1, these go from {low:g} to {high:g}")
    elif kind in _COUNTS and low < 0:
        yield Finding(label, f"{loss} takes targets that are not negative, the smallest is {low:g}")


def _class_findings(loss: str, info: TensorInfo, target: np.ndarray, label: str) -> Iterator[Finding]:
    import numpy as np

    classes, has = info.shape[-1], target.shape[1:]
    if _size(has) != _size(info.shape[1:-1]):
        yield Finding(
            label,
            f"{loss} takes one class number for each of the output's {classes} probabilities, "
            f"the target has rows of shape {has}"
            + (": one-hot rows go with categorical_crossentropy" if has and has[-1] == classes else ""),
        )
        return
    if target.dtype.kind == "f" and (target != np.floor(target)).any():
        broken = target[target != np.floor(target)].flat[0]
        yield Finding(label, f"{loss} takes class numbers, the target holds {broken:g}")
        return
    low, high = int(target.min()), int(target.max())
    if low < 0:
        yield Finding(label, f"class numbers begin at 0, the smallest is {low}")
    if classes is not None and high >= classes:
        yield Finding(
            "/model",
            f"the last layer has {classes} units, the target has classes up to {high}: "
            f"it needs {high + 1} units, numbered from 0",
        )


def _activation_findings(
    kind: str, loss: str, info: TensorInfo, activation: str | None, *, from_logits: bool
) -> Iterator[Finding]:
    wanted = _WANTS.get(kind)
    if activation is None:
        return
    if activation == "softmax" and info.shape[-1] == 1:
        yield Finding("/model", f"softmax over one unit is always 1: give output {info.name!r} sigmoid")
    elif wanted and from_logits and activation in _PROBABILITIES:
        yield Finding(
            "/compile/loss",
            f"from_logits is true, but output {info.name!r} ends in {activation}",
            fatal=False,
        )
    elif wanted and not from_logits and activation not in _PROBABILITIES:
        yield Finding(
            "/compile/loss",
            f"{loss} takes probabilities, but output {info.name!r} ends in {activation}: "
            f"give its layer {wanted}, or the loss from_logits",
            fatal=False,
        )
    elif kind in _NUMBERS and activation == "softmax":
        yield Finding("/model", f"{loss} of probabilities: output {info.name!r} ends in softmax", fatal=False)


def _activations(model: keras.Model) -> list[str | None]:
    """Name the activation that each output ends in, None where that can't be told from its layer."""
    import keras

    def of(layer: Any) -> str | None:  # noqa: ANN401  # any operation
        if isinstance(layer, keras.Sequential):
            return of(layer.layers[-1])
        if isinstance(layer, keras.layers.Softmax):
            return "softmax"
        activation = getattr(layer, "activation", None)
        return getattr(activation, "__name__", None)

    try:
        outputs = model.outputs
    except AttributeError:  # of a subclassed model
        return []
    return [of(tensor._keras_history.operation) for tensor in outputs or ()]


def index_findings(model: keras.Model, features: Mapping[str, np.ndarray | ArrayFile]) -> Iterator[Finding]:
    """Yield the inputs whose values an Embedding that reads them has no row for."""
    import keras

    for layer in model.layers:
        if not isinstance(layer, keras.layers.Embedding):
            continue
        read = {tensor.name for node in layer._inbound_nodes for tensor in node.input_tensors}
        for name in read & features.keys():
            low, high = extremes(features[name])
            if low < 0 or high >= layer.input_dim:
                yield Finding(
                    "/model",
                    f"{layer.name} has {layer.input_dim} rows, numbered from 0; its input {name!r} holds "
                    f"{low:g} to {high:g}",
                )


def class_weight_findings(
    weights: Mapping[int, float] | str | None, outputs: Sequence[TensorInfo]
) -> Iterator[Finding]:
    """Yield the classes that are given a weight and that no output has."""
    if not isinstance(weights, Mapping) or len(outputs) != 1:
        return
    classes = max(2, outputs[0].shape[-1] or 2)
    for number in weights:
        if not 0 <= number < classes:
            yield Finding(f"/fit/class_weight/{number}", f"the model has classes 0 to {classes - 1}")


def _comparable(gives: Sequence[int | None], has: Sequence[int]) -> bool:
    """Say whether rows of these shapes can be compared, (1,) with () too."""
    if len(gives) != len(has):
        return _size(gives) == _size(has) == 1
    return all(a is None or a == b for a, b in zip(gives, has, strict=True))


def _size(shape: Sequence[int | None]) -> int | None:
    size = 1
    for each in shape:
        if each is None:
            return None
        size *= each
    return size
