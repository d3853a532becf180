"""TensorFlow's own format: what TensorFlow Serving loads, and what every other format is made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.format import SIGNATURE, FormatOptions, Loaded, Runtime, Tolerance
from exporter.preparation import CORE

if TYPE_CHECKING:
    from exporter.endpoint import Endpoint
    from exporter.format import Arrays

NAME = "saved_model"
# The version's folder is the SavedModel; everything else lies in its assets.extra.
PATH = "."
REQUIRES = ("tensorflow", "keras")
RUNTIME = Runtime("tensorflow", "tensorflow")


class Options(FormatOptions):
    """Nothing to choose yet."""


def tolerance(options: Options) -> Tolerance:  # noqa: ARG001 - the contract's signature
    """Same graph, same kernels: what is left is the order of float32 sums at another batch size."""
    return Tolerance(difference=1e-5)


def write(endpoint: Endpoint, destination: Path, options: Options) -> str:  # noqa: ARG001
    """Write `saved_model.pb` and its folders into `destination`, with the endpoint's names.

    Where requests are prepared, `serving_default` takes their columns, and `core` what the model takes.
    """
    import keras

    archive = keras.export.ExportArchive()
    archive.track(endpoint.model)
    recipe = f"keras {keras.__version__} ExportArchive, signature {SIGNATURE}"
    preparation = endpoint.preparation
    if preparation is None:
        archive.add_endpoint(SIGNATURE, endpoint.serve, input_signature=endpoint.tensor_specs())
        archive.write_out(str(destination), verbose=False)
        return f"{recipe}, dynamic batch"
    for kept in preparation.keeps():
        archive.track(kept)
    archive.add_endpoint(CORE, endpoint.serve, input_signature=endpoint.tensor_specs())
    archive.add_endpoint(SIGNATURE, endpoint.serve_request, input_signature=preparation.signature())
    archive.write_out(str(destination), verbose=False)
    return f"{recipe} of columns and {CORE} of numbers, dynamic batch"


def load(path: Path, signature_name: str = SIGNATURE) -> Loaded:
    """Load with TensorFlow and call a signature, as TensorFlow Serving does."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures[signature_name]

    # The default argument keeps `loaded` alive: its variables die with it.
    def predict(features: Arrays, _loaded: object = loaded) -> Arrays:
        tensors = {name: tf.constant(array) for name, array in features.items()}
        return {name: tensor.numpy() for name, tensor in signature(**tensors).items()}

    return Loaded(predict)
