from __future__ import annotations

import numpy as np

from exporter.endpoint import Endpoint
from exporter.formats import saved_model, tflite


def test_the_refused_operations_are_picked_out_of_the_converters_message():
    # As TensorFlow 2.20 writes it for an LSTM.
    message = (
        '<unknown>:0: error: loc(callsite(fused["TensorListReserve:", "lstm/TensorArrayV2_1@__inf_1"])): '
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass\n"
        '<unknown>:0: note: loc(fused["StatefulPartitionedCall:"]): called from\n'
        '<unknown>:0: error: loc(fused["X:"]): '
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass\n"
    )
    assert tflite.refused_operations(message) == (
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass. "
        "A recurrent layer becomes TensorFlow Lite with `unroll: true` in its config"
    )
    assert tflite.refused_operations("out of memory") == ""


def test_an_unrolled_recurrent_layer_becomes_tflite_with_a_free_batch(tmp_path):
    import keras

    model = keras.Sequential(
        [keras.Input((5, 2), name="x"), keras.layers.LSTM(3, unroll=True), keras.layers.Dense(1)]
    )
    features = {"x": np.random.default_rng(3).normal(size=(4, 5, 2)).astype(np.float32)}
    endpoint = Endpoint.of(model, features)
    saved_model.write(endpoint, tmp_path / "1", saved_model.Options())

    tflite.convert(tmp_path / "1", tmp_path / "model.tflite", tflite.Options(), features)

    answers = tflite.load(tmp_path / "model.tflite").predict(features)["output_0"]
    # 1.5e-8 was seen.
    assert np.abs(answers - endpoint.predict(features, 4)["output_0"]).max() < 1e-6
