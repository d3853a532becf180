"""A model read back from one of Keras's own files, asked by the names that it is served with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.arrays import plain
from exporter.endpoint import Endpoint
from exporter.format import Loaded

if TYPE_CHECKING:
    from exporter.format import Arrays


def in_keras(file: Path) -> Loaded:
    """Load without what it was compiled with, and without running code from the file (`safe_mode`)."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(file, compile=False, safe_mode=True)
    endpoints: list[Endpoint] = []

    def predict(features: Arrays) -> Arrays:
        if not endpoints:  # a subclassed model tells its names by its first rows
            endpoints.append(Endpoint.of(model, features))
        (endpoint,) = endpoints
        tensors = [tf.constant(array) for array in endpoint.bind(features).values()]
        return {name: plain(tensor.numpy()) for name, tensor in endpoint.serve(*tensors).items()}

    return Loaded(predict)
