"""The requests that TensorFlow Serving sends itself before the first caller does.

The format is TensorFlow Serving's (tensorflow.org/tfx/serving/saved_model_warmup): a TFRecord file of
`PredictionLog`. A graph is traced and its kernels are chosen at the first call of each batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact import EXTRA

if TYPE_CHECKING:
    from exporter.format import Arrays

FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 32)


def write_warmup(version: Path, rows: Mapping[str, Arrays]) -> None:
    """Write a request of one row and one of 32 for each signature, out of its real rows."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    file = version / EXTRA / FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as records:
        for signature, arrays in rows.items():
            for size in BATCH_SIZES:
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.signature_name = signature
                for name, array in arrays.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(array[:size]))
                records.write(log.SerializeToString())
