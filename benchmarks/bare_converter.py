"""One bare converter in a process of its own, as somebody calls it without fitserve: nothing is proven.

`python -m benchmarks.bare_converter FORMAT[-QUANTIZATION] MODEL.keras SAVED_MODEL OUT`; `saved_model` writes
SAVED_MODEL, which those after it read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Convert."""
    what, model, saved_model, out = sys.argv[1], *(Path(argument) for argument in sys.argv[2:])
    format_, _, quantization = what.partition("-")
    if format_ in ("saved_model", "keras", "h5"):
        _from_keras(format_, model, saved_model, out)
    elif format_ == "tflite":
        out.write_bytes(_tflite(saved_model, quantization))
    elif format_ == "onnx":
        _onnx(saved_model, out)
    else:
        _tfjs(saved_model, out, quantization)


def _from_keras(format_: str, file: Path, saved_model: Path, out: Path) -> None:
    import keras

    model = keras.saving.load_model(file)
    if format_ == "saved_model":
        model.export(saved_model, verbose=False)
    else:
        model.save(out)


def _tflite(saved_model: Path, quantization: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if quantization:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization.startswith("int8"):
        rows = 16 * np.random.default_rng(1).random((256, 1, 8, 8, 1), np.float32)
        converter.representative_dataset = lambda: ([row] for row in rows)
    if quantization == "int8_io":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def _onnx(saved_model: Path, out: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(str(saved_model))  # whose variables die with it
    signature = loaded.signatures["serving_default"]
    _, inputs = signature.structured_input_signature
    specs = [tf.TensorSpec(each.shape, each.dtype, name=name) for name, each in inputs.items()]
    answer = tf.function(lambda *rows: signature(**dict(zip(inputs, rows, strict=True))))
    tf2onnx.convert.from_function(answer, input_signature=specs, opset=18, output_path=str(out))


def _tfjs(saved_model: Path, out: Path, quantization: str) -> None:
    from exporter.tfjs.conversion import _converter

    # Any: what the converter takes.
    options: dict[str, Any] = {"quantization_dtype_map": {quantization: "*"}} if quantization else {}
    _converter().convert_tf_saved_model(str(saved_model), str(out), control_flow_v2=True, **options)


if __name__ == "__main__":
    main()
