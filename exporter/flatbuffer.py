"""What is mended in a TensorFlow Lite file after its conversion.

The schema is TensorFlow Lite's (tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

from __future__ import annotations

from typing import Any, TypeAlias

# The classes generated from the schema, which carry no types.
Untyped: TypeAlias = Any

_LONG_NAME_BYTES = 256
# XNNPACK, LiteRT's kernels for CPUs, takes no fully connected layer from here on (fully-connected-nc.c).
_SCALES_APART = 256


def mended(content: bytes) -> bytes:
    """Return the file as it should be: the same bytes where nothing is to be mended.

    Names of inner tensors are cut to their first part, as a quantized tensor is called like all that were
    fused into it: of an LSTM unrolled over 200 steps names were 1.5 of 2.2 MB. The model's borders are named
    by its signature.

    A tensor that was zero in all of the calibration, such as what a masked layer makes of its first state,
    has a scale of next to nothing, which LiteRT refuses to run. It gets the least scale that its layer gives.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    changes = [_cut_names(graph) + _widen_scales(graph, model.operatorCodes) for graph in model.subgraphs]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if any(changes) else content


def _cut_names(graph: Untyped) -> int:
    """Cut the long names, and say how many there were."""
    long = [tensor for tensor in graph.tensors if len(tensor.name or b"") > _LONG_NAME_BYTES]
    for tensor in long:
        tensor.name = tensor.name.split(b";")[0]
    return len(long)


def _widen_scales(graph: Untyped, codes: Untyped) -> int:
    """Widen what fully connected layers give in steps too fine, and say how many there were."""
    import numpy as np
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    widened = 0
    for operator in graph.operators:
        code = codes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) != BuiltinOperator.FULLY_CONNECTED:
            continue
        given, weights, made = (
            graph.tensors[index].quantization for index in (*operator.inputs[:2], operator.outputs[0])
        )
        if any(each is None or each.scale is None or not len(each.scale) for each in (given, weights, made)):
            continue
        least = given.scale[0] * max(weights.scale)
        if least >= _SCALES_APART * made.scale[0]:
            made.scale = np.array([least], np.float32)
            widened += 1
    return widened
