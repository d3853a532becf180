"""TensorFlow's own format: what TensorFlow Serving loads, and what every other format is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from exporter.format import SIGNATURE, FormatOptions, Loaded, Runtime, Tolerance
from exporter.preparation import CORE

if TYPE_CHECKING:
    import tensorflow as tf

    from exporter.endpoint import Endpoint
    from exporter.format import Arrays
    from exporter.further_signatures import FurtherSignature
    from exporter.signatures import Signature

    EntryPoints: TypeAlias = Mapping[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]

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

    from exporter.further_signatures import further_signatures

    further = further_signatures(endpoint, options.signatures)
    archive = keras.export.ExportArchive()
    archive.track(endpoint.model)
    recipe = f"keras {keras.__version__} ExportArchive, signature {SIGNATURE}"
    if endpoint.preparation is not None:
        for kept in endpoint.preparation.keeps():
            archive.track(kept)
        recipe += f" of columns and {CORE} of numbers"
    for name, (serve, takes) in _entry_points(endpoint, further).items():
        archive.add_endpoint(name, serve, input_signature=takes)
    archive.write_out(str(destination), verbose=False)
    _name_methods(destination, further)
    return ", ".join([recipe, *further, "dynamic batch"])


def intended(endpoint: Endpoint, options: Options) -> Mapping[str, Signature]:
    """Say which signatures `write` would write; the model need not be trained.

    Raises:
        ExportFailedError: a further signature isn't for such a model.
    """
    import tensorflow as tf

    from exporter.further_signatures import further_signatures
    from exporter.signatures import Signature

    further = further_signatures(endpoint, options.signatures)
    found = {}
    for name, (serve, takes) in _entry_points(endpoint, further).items():
        traced = tf.function(serve, input_signature=takes, autograph=False).get_concrete_function()
        found[name] = Signature.of({spec.name: spec for spec in takes}, traced.structured_outputs)
    return found


def _entry_points(endpoint: Endpoint, further: Mapping[SignatureName, FurtherSignature]) -> EntryPoints:
    """What is traced into each signature, and what it takes."""
    import tensorflow as tf

    found: dict[str, tuple[Callable[..., Any], list[tf.TensorSpec]]] = {
        SIGNATURE: (endpoint.serve_request, endpoint.request_specs())
    }
    if endpoint.preparation is not None:
        found[CORE] = (endpoint.serve, endpoint.tensor_specs())
    for name, signature in further.items():
        spec = tf.TensorSpec((None,), tf.string, name=signature.INPUT)
        found[name] = (signature.serve, [spec])
    return found


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
