"""The variables of a model, an optimizer or metrics as arrays of a checkpoint, and back.

On several devices a variable that no gradient moves (a moving mean, a metric's count, a random state) may
differ from device to device: then each device's own is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import ResumeError
from trainer.resume import Checkpoint

if TYPE_CHECKING:
    import keras
    import numpy as np


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Return all that a model carries from one batch to the next, random states included.

    Keras 3.15 leaves the states of a stateful RNN out of `model.variables`.
    """
    import keras

    states = [
        state
        for layer in model._flatten_layers()
        for state in keras.tree.flatten(getattr(layer, "states", None))
        if isinstance(state, keras.Variable)
    ]
    # A nested model may show a layer twice.
    return list({id(variable): variable for variable in [*model.variables, *states]}.values())


def optimizers_of(model: keras.Model) -> dict[str, keras.optimizers.Optimizer]:
    """Return the optimizer of `compile` and those that a model of its own kind keeps beside it, by owner."""
    import keras

    own = getattr(model, "optimizer", None)  # of a compiled model
    found = {} if own is None else {"optimizer": own}
    for name, value in sorted(vars(model).items()):
        if isinstance(value, keras.optimizers.Optimizer) and value is not own:
            found[f"optimizer.{name}"] = value
    return found


def arrays_of(owner: str, variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Key the variables' values by owner and number; what other devices have otherwise, by `owner@device`."""
    arrays = {}
    for number, variable in enumerate(variables):
        first, *others = (each.numpy() for each in _each_device(variable))
        arrays[f"{owner}/{number}"] = first
        for device, other in enumerate(others, start=1):
            if first.tobytes() != other.tobytes():
                arrays[f"{owner}@{device}/{number}"] = other
    return arrays


def put_back(checkpoint: Checkpoint, owner: str, variables: Iterable[keras.Variable]) -> None:
    """Put a checkpoint's values back into the owner's variables, device by device.

    Raises:
        ResumeError: number or shapes differ, so the checkpoint is of another model.
    """
    variables, arrays = list(variables), checkpoint.of(owner)
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise ResumeError(
            f"the checkpoint's {owner} variables are not those of this spec",
            remedy="Submit a new job: a resumed one must have the same spec.",
        )
    for number, (variable, array) in enumerate(zip(variables, arrays, strict=True)):
        for device, each in enumerate(_each_device(variable)):
            own = checkpoint.arrays.get(f"{owner}@{device}/{number}", array)
            each.assign(own)


def agree(model: keras.Model) -> None:
    """Give every device the first one's values, so that all answer as the exported model will."""
    for variable in variables_of(model):
        first, *others = _each_device(variable)
        for other in others:
            other.assign(first)


def _each_device(variable: keras.Variable) -> Sequence[Any]:
    import tensorflow as tf

    value = variable.value
    return value.values if isinstance(value, tf.distribute.DistributedValues) else (variable,)
