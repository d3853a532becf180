"""ONNX, for onnxruntime and everything else outside TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field

from exporter.format import FormatOptions, Loaded, Runtime, Tolerance
from exporter.signatures import convertible

if TYPE_CHECKING:
    from exporter.format import Arrays

# The graph classes of tf2onnx, the protos of ONNX and TensorFlow's tensors: none of them carries types.
Untyped: TypeAlias = Any

NAME = "onnx"
PATH = "assets.extra/{name}.onnx"
REQUIRES = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
RUNTIME = Runtime("onnxruntime", "onnxruntime")


class Options(FormatOptions):
    """What a user may choose."""

    # tf2onnx 1.17 refuses 19 and up.
    opset: int = Field(default=18, ge=13, le=18, description="The ONNX operator set to write.")


def tolerance(options: Options) -> Tolerance:  # noqa: ARG001 - the contract's signature
    """Other kernels, the same float32: up to 2.4e-7 was seen on small networks."""
    return Tolerance(difference=1e-5)


def convert(
    saved_model: Path,
    destination: Path,
    options: Options,
    representative: Arrays,  # noqa: ARG001
) -> str:
    """Convert the model's own signature, its names kept and the batch dimension named `batch`."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures[convertible(saved_model)]
    specs = signature.structured_input_signature[1]

    @tf.function  # type: ignore[untyped-decorator]
    def serve(*tensors: Untyped) -> Untyped:
        return signature(**dict(zip(specs, tensors, strict=True)))

    model, _ = tf2onnx.convert.from_function(
        serve,
        input_signature=[tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()],
        opset=options.opset,
        custom_op_handlers={"Erfc": (_erfc_as_erf, [])},
    )
    _name_batch(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(destination))
    return f"tf2onnx {tf2onnx.__version__} from_function on the SavedModel's signature, opset {options.opset}"


def load(path: Path) -> Loaded:
    """Load with onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def predict(features: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, dict(features)), strict=True))

    return Loaded(predict)


def _erfc_as_erf(context: Untyped, node: Untyped, name: str, args: Untyped) -> None:  # noqa: ARG001
    """Write erfc(x), which exact gelu uses and ONNX lacks, as 1 - erf(x)."""
    import numpy as np
    from tf2onnx import utils

    dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.input[0]))
    one = context.make_const(utils.make_name("one"), np.array(1, dtype=dtype))
    erf = context.make_node("Erf", [node.input[0]])
    outputs, shapes, dtypes = node.output, node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=outputs, name=node.name, shapes=shapes, dtypes=dtypes
    )


def _name_batch(graph: Untyped) -> None:
    """Give the first dimension of every input and output one name, in place of tf2onnx's `unk__N`."""
    borders = [*graph.input, *graph.output]
    batches = {value.type.tensor_type.shape.dim[0].dim_param for value in borders if _has_free_batch(value)}
    for value in [*borders, *graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in batches:
                dimension.dim_param = "batch"


def _has_free_batch(value: Untyped) -> bool:
    dimensions = value.type.tensor_type.shape.dim
    return bool(dimensions) and bool(dimensions[0].dim_param)
