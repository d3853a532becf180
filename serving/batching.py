"""Several requests in one call of the model: their rows together, the answer's rows apart again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from serving.batching_parameters import BatchingParameters
from serving.errors import Code, RequestError
from serving.signatures import Plan
from serving.tensors import Array

if TYPE_CHECKING:
    from serving.servable import Servable

# Rows answered together and alone differ by the order of sums; a graph that mixes rows differs by more.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5

Answer = list[Array] | RequestError


def rows_of(inputs: Mapping[str, Array]) -> int:
    """Return how many rows all inputs have, or 0 when they have no batch axis in common."""
    sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def answer(
    servable: "Servable",
    plan: Plan,
    requests: Sequence[Mapping[str, Array]],
    parameters: BatchingParameters,
) -> list[Answer]:
    """Return each request's outputs or error, from one call of the model where that is possible.

    A call that fails for several requests is made again for each: nobody fails for a neighbour's rows.
    """
    together = _together(servable, plan, requests, parameters)
    if together is not None:
        return together
    return [_alone(servable, plan, inputs) for inputs in requests]


def proven(
    servable: "Servable",
    plan: Plan,
    requests: Sequence[Mapping[str, Array]],
    parameters: BatchingParameters,
) -> tuple[list[Answer], bool]:
    """Return each request's own answer, and whether one call for all of them gives the same."""
    answers = [_alone(servable, plan, inputs) for inputs in requests]
    if any(isinstance(each, RequestError) for each in answers):
        return answers, True
    together = _together(servable, plan, requests, parameters)
    return answers, together is not None and all(map(_same, answers, together))


def _together(
    servable: "Servable",
    plan: Plan,
    requests: Sequence[Mapping[str, Array]],
    parameters: BatchingParameters,
) -> list[Answer] | None:
    sizes = [rows_of(inputs) for inputs in requests]
    rows = sum(sizes)
    padded = parameters.padded_rows(rows)
    if not rows:
        return None
    if len(requests) == 1 and padded == rows <= parameters.max_batch_size:
        return [_alone(servable, plan, requests[0])]
    inputs = {
        name: _joined([each[name] for each in requests], padded, parameters.pad_variable_length_inputs)
        for name in plan.inputs
    }
    if any(array is None for array in inputs.values()):
        return None
    whole = {name: array for name, array in inputs.items() if array is not None}
    pieces = []
    for start in range(0, padded, parameters.max_batch_size):
        end = min(start + parameters.max_batch_size, padded)
        try:
            outputs = servable.run(plan, {name: array[start:end] for name, array in whole.items()})
        except RequestError as error:
            return [error] if len(requests) == 1 else None
        if any(output.ndim == 0 or output.shape[0] != end - start for output in outputs):
            return None
        pieces.append(outputs)
    joined = pieces[0] if len(pieces) == 1 else [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    ends = np.cumsum(sizes).tolist()
    return [[output[end - size : end] for output in joined] for size, end in zip(sizes, ends, strict=True)]


def _joined(arrays: Sequence[Array], rows: int, pad: bool) -> Array | None:
    if pad and len({array.shape[1:] for array in arrays}) > 1:
        if len({array.ndim for array in arrays}) > 1 or any(array.size == 0 for array in arrays):
            return None
        shape = [max(sizes) for sizes in zip(*[array.shape[1:] for array in arrays], strict=True)]
        arrays = [_padded(array, shape) for array in arrays]
    missing = rows - sum(len(array) for array in arrays)
    # A row that is there already is one that the graph takes.
    filler = [np.repeat(arrays[0][:1], missing, axis=0)] if missing else []
    return np.concatenate([*arrays, *filler])


def _padded(array: Array, shape: Sequence[int]) -> Array:
    # TensorFlow Serving pads with a tensor's first element (batching_util.h).
    padded = np.full((len(array), *shape), array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _alone(servable: "Servable", plan: Plan, inputs: Mapping[str, Array]) -> Answer:
    try:
        return servable.run(plan, inputs)
    except RequestError as error:
        return error


def _same(one: Answer, other: Answer) -> bool:
    if isinstance(one, RequestError) or isinstance(other, RequestError):
        return False
    return all(map(_close, one, other))


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fc":
        return bool(np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(one, other))


def check_rows(rows: int, parameters: BatchingParameters) -> None:
    """Refuse a request with more rows than a batch may have, unless such are split.

    Raises:
        RequestError: INVALID_ARGUMENT, in TensorFlow's words.
    """
    if rows > parameters.max_batch_size and not parameters.enable_large_batch_splitting:
        raise RequestError(
            Code.INVALID_ARGUMENT,
            f"Task size {rows} is larger than maximum input batch size {parameters.max_batch_size}",
        )
