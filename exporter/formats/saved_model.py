"""TensorFlow's own format: what TensorFlow Serving loads, and what every other format is made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from exporter.format import SIGNATURE, FormatOptions, Loaded, Runtime, Tolerance
from exporter.preparation import CORE

if TYPE_CHECKING:
    from exporter.endpoint import Endpoint
    from exporter.format import Arrays
    from exporter.further_signatures import FurtherSignature

NAME = "saved_model"
# The version's folder is the SavedModel; everything else lies in its assets.extra.
PATH = "."
REQUIRES = ("tensorflow", "keras")
RUNTIME = Runtime("tensorflow", "tensorflow")

SignatureName: TypeAlias = Literal["classify", "regress", "image_bytes"]
"""Those of `exporter.further_signatures`."""


def _each_once(names: tuple[SignatureName, ...]) -> tuple[SignatureName, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"name each signature once; received {', '.join(names)}")
    return names


class Options(FormatOptions):
    """What is offered beside `serving_default`."""

    signatures: Annotated[tuple[SignatureName, ...], AfterValidator(_each_once)] = Field(
        default=(),
        description=(
            "Further signatures: classify and regress take serialized tf.Examples, as TensorFlow Serving's "
            "calls of these names send them; image_bytes takes images as JPEG or PNG."
        ),
    )


def tolerance(options: Options) -> Tolerance:  # noqa: ARG001 - the contract's signature
    """Same graph, same kernels: what is left is the order of float32 sums at another batch size."""
    return Tolerance(difference=1e-5)


def write(endpoint: Endpoint, destination: Path, options: Options) -> str:
    """Write `saved_model.pb` and its folders into `destination`, with the endpoint's names.

    Where requests are prepared, `serving_default` takes their columns, and `core` what the model takes.

    Raises:
        ExportFailedError: a further signature isn't for such a model.
    """
    import keras
    import tensorflow as tf

    from exporter.further_signatures import further_signatures

    further = further_signatures(endpoint, options.signatures)
    archive = keras.export.ExportArchive()
    archive.track(endpoint.model)
    recipe = f"keras {keras.__version__} ExportArchive, signature {SIGNATURE}"
    if endpoint.preparation is not None:
        for kept in endpoint.preparation.keeps():
            archive.track(kept)
        archive.add_endpoint(CORE, endpoint.serve, input_signature=endpoint.tensor_specs())
        recipe += f" of columns and {CORE} of numbers"
    archive.add_endpoint(SIGNATURE, endpoint.serve_request, input_signature=endpoint.request_specs())
    for name, signature in further.items():
        spec = tf.TensorSpec((None,), tf.string, name=signature.INPUT)
        archive.add_endpoint(name, signature.serve, input_signature=[spec])
        recipe += f", {name}"
    archive.write_out(str(destination), verbose=False)
    _name_methods(destination, further)
    return f"{recipe}, dynamic batch"


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


def _name_methods(folder: Path, signatures: Mapping[SignatureName, FurtherSignature]) -> None:
    """Say by which call of TensorFlow Serving each is asked; TensorFlow writes `predict` of them all."""
    from tensorflow.compat.v1.saved_model.signature_def_utils import MethodNameUpdater
    from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

    if not signatures:
        return
    updater = MethodNameUpdater(str(folder))
    for name, signature in signatures.items():
        updater.replace_method_name(name, signature.METHOD)
    updater.save()
    write_fingerprint(str(folder))  # it has the file's checksum
