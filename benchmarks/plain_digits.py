"""The script that somebody writes without fitserve: fit the digits CNN, convert it four ways, prove nothing.

`python -m benchmarks.plain_digits DIGITS.npz OUT` trains what `examples/digits.json` says, seed included, so
it is the peer of the demo's job in `benchmarks.walk`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx


def main() -> None:
    """Train on four fifths of the rows, validate on the rest, then convert."""
    data, out = (Path(argument) for argument in sys.argv[1:])
    keras.utils.set_random_seed(7)
    tf.config.experimental.enable_op_determinism()
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    split = int(len(x) * 0.8)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 16),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(0.002), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    augment = layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=7)
    rows = tf.data.Dataset.from_tensor_slices((x[:split], y[:split])).cache().shuffle(split, seed=7).batch(32)
    train = rows.map(lambda a, b: (augment(a, training=True), b), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    test = tf.data.Dataset.from_tensor_slices((x[split:], y[split:])).batch(32)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=8, restore_best_weights=True)
    model.fit(train, validation_data=test, epochs=25, callbacks=[stopping], verbose=0)
    _convert(model, x, out)


def _convert(model: keras.Model, x: np.ndarray, out: Path) -> None:
    saved = str(out / "saved_model")
    model.export(saved, verbose=False)
    (out / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[np.newaxis]] for row in x[:256])
    (out / "model-int8.tflite").write_bytes(converter.convert())
    signature = [tf.TensorSpec((None, 8, 8, 1), tf.float32, name="features")]
    answer = tf.function(lambda features: model(features, training=False), input_signature=signature)
    tf2onnx.convert.from_function(answer, input_signature=signature, output_path=str(out / "model.onnx"))
    model.save_weights(out / "model.weights.h5")


if __name__ == "__main__":
    main()
