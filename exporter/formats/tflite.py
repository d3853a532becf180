"""TensorFlow Lite, for phones and boards: float32, or smaller by any of its post-training quantizations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field

from exporter.flatbuffer import mended
from exporter.format import FormatOptions, Loaded, Runtime, StandIn, Tolerance
from exporter.signatures import convertible

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from exporter.endpoint import Endpoint
    from exporter.format import Arrays
    from exporter.signatures import Signature

NAME = "tflite"
PATH = "assets.extra/{name}.tflite"
REQUIRES = ("tensorflow", "ai_edge_litert")
RUNTIME = Runtime("ai-edge-litert", "ai_edge_litert.interpreter")

CALIBRATION_ROWS = 256

Quantization: TypeAlias = Literal["float16", "dynamic", "int8", "int8_io"]
# TensorFlow's converter, and the interpreter's details of a tensor, which carry no types.
Converter: TypeAlias = Any
Details: TypeAlias = Any

_TOLD = MappingProxyType(
    {
        "float16": "float16 weights",
        "dynamic": "int8 weights, float32 activations",
        "int8": "int8 calibrated on {rows} rows, float32 in and out",
        "int8_io": "int8 calibrated on {rows} rows, int8 in and out",
    }
)
_CALIBRATED = frozenset({"int8", "int8_io"})
# Largest seen on small networks: 0.035 of the range; a broken calibration is off by the range itself.
_EIGHT_BITS = Tolerance(difference=0.1, scale="range", metric_delta=0.02)
_TOLERANCES = MappingProxyType({None: Tolerance(difference=1e-5), "float16": Tolerance(difference=1e-2)})

_REFUSED = re.compile(r"'tf\.\w+' op [\w -]+")


class Options(FormatOptions):
    """What a user may choose."""

    quantization: Quantization | None = Field(
        default=None,
        description=(
            "float16: 16-bit weights. dynamic: 8-bit weights, float32 activations. int8: 8-bit weights and "
            "activations, calibrated on training rows; float32 in and out. int8_io: int8 in and out too."
        ),
    )

    def variant(self) -> str | None:
        """Name the quantization."""
        return self.quantization


def tolerance(options: Options) -> Tolerance:
    """Hold float32 to the last digits, float16 to its own; 8 bits to the task, or a tenth of the range."""
    return _TOLERANCES.get(options.quantization, _EIGHT_BITS)


def stand_in(endpoint: Endpoint, options: Options) -> StandIn | None:
    """Have recurrent layers unrolled or, where they are too long for that, fed a batch of one row.

    The converter takes no loop over a free batch, and dies of SIGSEGV where it calibrates a loop.

    Raises:
        ValueError: calibration is asked for, and the layers can't be unrolled.
    """
    from exporter import unrolling

    lengths = unrolling.steps(endpoint.model)
    if not lengths:
        return None
    obstacle = unrolling.obstacle(endpoint.model)
    if obstacle is None:
        return StandIn("unrolled", unrolling.unrolled(endpoint), "recurrent layers unrolled")
    if options.quantization in _CALIBRATED:
        raise ValueError(
            f"{options.quantization} takes recurrent layers unrolled alone, and {obstacle}. Give the model "
            "sequences of one length and shorter ones, or choose the quantization dynamic or float16"
        )
    return StandIn("one-row", unrolling.one_row(endpoint), f"batch of 1, as {obstacle}")


def convert(saved_model: Path, destination: Path, options: Options, representative: Arrays) -> str:
    """Convert the model's own signature; int8 is calibrated on up to 256 of the representative rows.

    Raises:
        ValueError: the converter refuses operations of the model.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[convertible(saved_model)]
    )
    rows = min(CALIBRATION_ROWS, *(len(array) for array in representative.values()))
    _choose(converter, options.quantization)
    if options.quantization in _CALIBRATED:
        converter.representative_dataset = lambda: _single_rows(representative, rows)
    try:
        content = converter.convert()
    # The converter's own error type is private, and its message is a page of graph locations.
    except Exception as error:
        if reasons := refused_operations(str(error)):
            raise ValueError(reasons) from error
        raise
    destination.write_bytes(mended(content))
    told = _TOLD.get(options.quantization or "", "").format(rows=rows)
    return ", ".join(filter(None, [f"tensorflow {tf.__version__} TFLiteConverter.from_saved_model", told]))


def refused_operations(message: str) -> str:
    """Pick out of the converter's message which operations it refused and why; empty when it names none."""
    reasons = "; ".join(dict.fromkeys(_REFUSED.findall(message)))
    if "TensorListReserve" in reasons:
        reasons += (
            ". TensorFlow Lite takes no loop over a free batch: write it with Keras's recurrent layers, "
            "which are unrolled, or over a fixed number of steps in Python"
        )
    return reasons


def load(path: Path) -> Loaded:
    """Load with LiteRT's interpreter; the signature runner resizes the batch by itself.

    Numbers go in and come out in the model's own units where the artifact's tensors are quantized:
    q = round(x / scale) + zero_point, x = (q - zero_point) * scale, by each tensor's scale and zero point
    (ai.google.dev/edge/litert/models/quantization_spec).
    """
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def predict(features: Arrays) -> Arrays:
        quantized = {name: _quantized(array, inputs[name]) for name, array in features.items()}
        return {name: _dequantized(array, outputs[name]) for name, array in runner(**quantized).items()}

    one_row = all(details["shape_signature"][0] == 1 for details in inputs.values())
    return Loaded(predict, batch_size=1 if one_row else None, signature=_signature(inputs, outputs))


def _choose(converter: Converter, quantization: Quantization | None) -> None:
    """Set what the converter calls a quantization."""
    import tensorflow as tf

    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8_io":
        # For chips without floating point: an operation that has no 8-bit form is an error.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8


def _single_rows(arrays: Arrays, rows: int) -> Iterator[Arrays]:
    for row in range(rows):
        yield {name: array[row : row + 1] for name, array in arrays.items()}


def _quantized(array: npt.NDArray[Any], details: Details) -> npt.NDArray[Any]:
    import numpy as np

    scale, zero_point = details["quantization"]
    if not scale:
        return array
    limits = np.iinfo(details["dtype"])
    steps = np.round(array / scale) + zero_point
    quantized: npt.NDArray[Any] = steps.clip(limits.min, limits.max).astype(details["dtype"])
    return quantized


def _dequantized(array: npt.NDArray[Any], details: Details) -> npt.NDArray[Any]:
    import numpy as np

    scale, zero_point = details["quantization"]
    return (array.astype(np.float32) - zero_point) * np.float32(scale) if scale else array


def _signature(inputs: Mapping[str, Details], outputs: Mapping[str, Details]) -> Signature:
    import numpy as np

    from exporter.signatures import Signature, TensorInfo

    def tensors(details: Mapping[str, Details]) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(
                name,
                "string" if each["dtype"] is np.bytes_ else np.dtype(each["dtype"]).name,
                tuple(None if size < 0 else int(size) for size in each["shape_signature"]),
            )
            for name, each in sorted(details.items())
        )

    return Signature(tensors(inputs), tensors(outputs))
