"""TensorFlow Lite, for phones and boards: float32, or int8 inside with float32 at the borders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from exporter.format import FormatOptions, Loaded, Runtime, Tolerance
from exporter.signatures import convertible

if TYPE_CHECKING:
    from exporter.format import Arrays

NAME = "tflite"
PATH = "assets.extra/{name}.tflite"
REQUIRES = ("tensorflow", "ai_edge_litert")
RUNTIME = Runtime("ai-edge-litert", "ai_edge_litert.interpreter")

CALIBRATION_ROWS = 256

_REFUSED = re.compile(r"'tf\.\w+' op [\w -]+")


class Options(FormatOptions):
    """What a user may choose."""

    quantization: Literal["int8"] | None = Field(
        default=None,
        description="int8: 8-bit weights and activations, calibrated on training rows; float32 in and out.",
    )

    def variant(self) -> str | None:
        """Name the quantization."""
        return self.quantization


def tolerance(options: Options) -> Tolerance:
    """Hold float32 to the last digits; hold int8 to the task, or to a tenth of the output's range."""
    if options.quantization is None:
        return Tolerance(difference=1e-5)
    # Largest seen on small networks: 0.035 of the range; a broken calibration is off by the range itself.
    return Tolerance(difference=0.1, scale="range", metric_delta=0.02)


def convert(saved_model: Path, destination: Path, options: Options, representative: Arrays) -> str:
    """Convert the model's own signature; int8 is calibrated on up to 256 of the representative rows."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[convertible(saved_model)]
    )
    recipe = f"tensorflow {tf.__version__} TFLiteConverter.from_saved_model"
    if options.quantization == "int8":
        rows = min(CALIBRATION_ROWS, *(len(array) for array in representative.values()))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _single_rows(representative, rows)
        recipe += f", int8 calibrated on {rows} rows, float32 in and out"
    try:
        content = converter.convert()
    # The converter's own error type is private, and its message is a page of graph locations.
    except Exception as error:
        if reasons := refused_operations(str(error)):
            raise ValueError(reasons) from error
        raise
    destination.write_bytes(content)
    return recipe


def refused_operations(message: str) -> str:
    """Pick out of the converter's message which operations it refused and why; empty when it names none."""
    reasons = "; ".join(dict.fromkeys(_REFUSED.findall(message)))
    if "TensorListReserve" in reasons:
        reasons += ". A recurrent layer becomes TensorFlow Lite with `unroll: true` in its config"
    return reasons


def load(path: Path) -> Loaded:
    """Load with LiteRT's interpreter; the signature runner resizes the batch by itself."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()

    def predict(features: Arrays) -> Arrays:
        outputs: Arrays = runner(**features)
        return outputs

    return Loaded(predict)


def _single_rows(arrays: Arrays, rows: int) -> Iterator[Arrays]:
    for row in range(rows):
        yield {name: array[row : row + 1] for name, array in arrays.items()}
