"""`tf.Example`: rows in the form in which TensorFlow Serving's Classify and Regress send them.

The format is that of tensorflow/core/example/feature.proto: a feature holds int64, float32 or bytes, under
its column's name. What has another dtype is cast on its way in and out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import tensorflow as tf

    from exporter.format import Arrays


def check(specs: Sequence[tf.TensorSpec]) -> None:
    """See that Examples can hold these columns.

    Raises:
        ValueError: one has a free size, or a dtype that no feature holds.
    """
    for spec in specs:
        _feature(spec, gaps=False)


def parse(serialized: tf.Tensor, specs: Sequence[tf.TensorSpec], *, gaps: bool) -> list[tf.Tensor]:
    """Read the columns that `specs` describe, (rows, ...), out of strings of shape (rows,), in TensorFlow.

    With `gaps` an Example may lack a number that isn't whole, which then is NaN, and a text, which is "".
    """
    import tensorflow as tf

    features = {spec.name: _feature(spec, gaps=gaps) for spec in specs}
    with tf.device("CPU"):
        parsed = tf.io.parse_example(serialized, features)
        return [tf.cast(parsed[spec.name], spec.dtype) for spec in specs]


def serialize(columns: Arrays, *, gaps: bool) -> npt.NDArray[Any]:
    """Write each row as an Example: bytes, of shape (rows,). With `gaps`, NaN and "" are left out."""
    import tensorflow as tf

    rows = min(len(array) for array in columns.values())
    written = np.empty(rows, object)
    for row in range(rows):
        example = tf.train.Example()
        for name, array in columns.items():
            values = array[row : row + 1].ravel()
            if not (gaps and _is_missing(values)):
                _fill(example.features.feature[name], values)
        written[row] = example.SerializeToString()
    return written


def carried(columns: Arrays) -> Arrays:
    """Return the columns as Examples hold them, float32 for float64; an array that stays is the same one."""
    return {name: _carried(array) for name, array in columns.items()}


def _feature(spec: tf.TensorSpec, *, gaps: bool) -> tf.io.FixedLenFeature:
    import tensorflow as tf

    shape = spec.shape[1:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"{spec.name!r} has the shape {tuple(shape)} a row, an Example's features a fixed one"
        )
    if spec.dtype == tf.string:
        return tf.io.FixedLenFeature(shape, tf.string, np.full(shape, "") if gaps else None)
    if spec.dtype.is_floating:
        return tf.io.FixedLenFeature(shape, tf.float32, np.full(shape, math.nan) if gaps else None)
    if spec.dtype.is_integer or spec.dtype.is_bool:
        return tf.io.FixedLenFeature(shape, tf.int64)
    raise ValueError(f"{spec.name!r} holds {spec.dtype.name}, which no Example does")


def _is_missing(values: npt.NDArray[Any]) -> bool:
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype.kind in "OSU" and all(value in {"", b""} for value in values)


def _fill(feature: tf.train.Feature, values: npt.NDArray[Any]) -> None:
    if values.dtype.kind in "OSU":
        feature.bytes_list.value.extend(
            value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
            for value in values
        )
    elif values.dtype.kind in "biu":
        feature.int64_list.value.extend(values.astype(np.int64).tolist())
    else:
        feature.float_list.value.extend(values.astype(np.float32).tolist())


def _carried(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype != np.float64:
        return array
    single = array.astype(np.float32).astype(np.float64)
    return array if np.array_equal(single, array, equal_nan=True) else single
