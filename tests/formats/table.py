"""Which formats there are to try, which cells are known to be refused, and the slice that every run tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.formats.zoo import MODELS

ENTRIES: tuple[Mapping[str, Any], ...] = (
    {"format": "saved_model"},
    {"format": "keras"},
    {"format": "h5"},
    {"format": "tflite"},
    {"format": "tflite", "quantization": "float16"},
    {"format": "tflite", "quantization": "dynamic"},
    {"format": "tflite", "quantization": "int8"},
    {"format": "tflite", "quantization": "int8_io"},
    {"format": "onnx"},
    {"format": "tfjs"},
    {"format": "tfjs", "quantization": "float16"},
    {"format": "tfjs", "quantization": "uint8"},
)
ARTIFACTS = tuple("-".join(filter(None, (each["format"], each.get("quantization")))) for each in ENTRIES)
FLOAT32 = ("saved_model", "keras", "h5", "tflite", "onnx", "tfjs")
FLOAT16 = ("tflite-float16", "tfjs-float16")

REFUSED: Mapping[tuple[str, str], str] = {
    ("subclassed_mlp", "h5"): "HDF5 holds no subclassed model",
    # Keras writes MultiHeadAttention's call in a form that it can't read again.
    ("transformer", "h5"): "too many positional arguments",
}
"""Cells that stay empty, with what the exporter says of them."""

SLICE: Mapping[str, tuple[str, ...]] = {
    "sequential_mlp": ("tflite-dynamic", "h5"),
    "functional_mlp": ("tflite-float16",),
    "subclassed_mlp": ("keras",),
    "cnn": ("tflite-int8", "tfjs-uint8"),
    "embedding_lstm": ("tflite",),
    "embedding_gru": ("onnx",),
    "bidirectional_lstm": ("tflite-int8_io",),
    "transformer": ("tfjs",),
    "two_by_two": ("tfjs-float16",),
    "prepared": ("onnx",),
}
"""Each model once and each format once, the SavedModel with all of them."""

assert SLICE.keys() == MODELS.keys()
assert {name for names in SLICE.values() for name in names} == {*ARTIFACTS} - {"saved_model"}
