"""What a request may ask of a signature, checked before any tensor is read."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.errors import Code, RequestError

DEFAULT = "serving_default"


class Plan(NamedTuple):
    """A checked request: the signature, the inputs it feeds (sorted), the outputs it fetches (in order)."""

    signature_name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def plan(name: str, signature: SignatureDef, given: Sequence[str], output_filter: Sequence[str]) -> Plan:
    """Check names of inputs and outputs against the signature, with TensorFlow Serving's texts.

    Raises:
        RequestError: INVALID_ARGUMENT, when inputs are missing or left over, or an output is unknown or
            asked for twice.
    """
    _check_inputs(signature, given)
    seen: set[str] = set()
    for output in output_filter:
        if output not in signature.outputs:
            raise RequestError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {output} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if output in seen:
            raise RequestError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {output}")
        seen.add(output)
    return Plan(name, tuple(sorted(given)), tuple(output_filter) or tuple(sorted(signature.outputs)))


def _check_inputs(signature: SignatureDef, given: Sequence[str]) -> None:
    wanted, defaults = set(signature.inputs), set(signature.defaults)
    if set(given) <= wanted and wanted - set(given) <= defaults:
        return
    if len(given) > len(wanted) or (len(given) < len(wanted) and not defaults):
        raise RequestError(
            Code.INVALID_ARGUMENT,
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(set(given) - wanted)}. Missing but required: "
            f"{_set(wanted - set(given))}.",
        )
    odd = min(set(given) - wanted, default="") or min(wanted - set(given) - defaults)
    raise RequestError(
        Code.INVALID_ARGUMENT,
        f"input tensor alias not found in signature: {odd}. Inputs expected to be in the set {_set(wanted)}.",
    )


def _set(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
