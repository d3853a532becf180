"""A TensorFlow Lite model in memory, served as TensorFlow Serving's TfLiteSession serves one.

Signatures are those that the file's metadata holds under `signature_defs_metadata`: a FlexBuffer map from a
signature's name to its serialized SignatureDef (tensorflow/lite/tools/signature). A file without them has
serving_default over all inputs and outputs, by their tensors' names up to the first colon. The signatures
that converters write into the file's own table are not read, as TensorFlow Serving doesn't read them either.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from serving import tensors
from serving.errors import Code, LoadError, RequestError
from serving.servable import Servable
from serving.signatures import DEFAULT, Plan
from serving.tensors import Array

MODEL_FILE = "model.tflite"
_PREDICT = "tensorflow/serving/predict"
_METADATA = b"signature_defs_metadata"

# Any in this file: what LiteRT's interpreter and the classes of its schema give, which carry no types.


class LiteModel(Servable):
    """A version that LiteRT's interpreters run, one for each call at the same time."""

    def __init__(self, content: bytes, *, threads: int = 0, check_method_names: bool = False) -> None:
        """Read the file's content; `threads` bounds those of one call, 0 leaves them to LiteRT.

        Raises:
            LoadError: it is no TensorFlow Lite model, or its signatures name tensors that it doesn't have.
        """
        self._content = content
        self._threads = threads or None
        interpreter = self._make()
        self._idle = [interpreter]
        self._inputs = _by_name(interpreter.get_input_details())
        self._outputs = _by_name(interpreter.get_output_details())
        super().__init__(
            _signatures(content, self._inputs, self._outputs), check_method_names=check_method_names
        )

    def run(self, plan: Plan, inputs: Mapping[str, Array]) -> list[Array]:
        """Feed `plan.inputs` and return `plan.outputs`; threads may call it at the same time.

        Raises:
            RequestError: INVALID_ARGUMENT, when a type isn't its input's, or the model can't take the shapes.
        """
        signature = self.signatures[plan.signature_name]
        fed = {
            signature.inputs[alias].name: _checked(inputs[alias], signature, alias) for alias in plan.inputs
        }
        started = time.perf_counter()
        with self._interpreter() as interpreter:
            try:
                self._feed(interpreter, fed)
                interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise RequestError(Code.INVALID_ARGUMENT, str(error)) from error
            arrays = [
                interpreter.get_tensor(self._outputs[signature.outputs[alias].name]["index"])
                for alias in plan.outputs
            ]
        self._note(time.perf_counter() - started)
        return [np.asarray(array) for array in arrays]

    def close(self) -> None:
        """Give the memory back; no call may be running."""
        self._idle.clear()

    def _feed(self, interpreter: Any, fed: Mapping[str, Array]) -> None:  # noqa: ANN401
        present = _by_name(interpreter.get_input_details())
        resized = [name for name, array in fed.items() if tuple(present[name]["shape"]) != array.shape]
        for name in resized:
            interpreter.resize_tensor_input(present[name]["index"], fed[name].shape)
        if resized:
            interpreter.allocate_tensors()
        for name, array in fed.items():
            interpreter.set_tensor(present[name]["index"], array)

    @contextlib.contextmanager
    def _interpreter(self) -> Iterator[Any]:
        # There are never more of them than threads that call. One that refused its inputs may be left half
        # resized, so it isn't used again.
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = self._make()
        yield interpreter
        self._idle.append(interpreter)

    def _make(self) -> Any:  # noqa: ANN401
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise LoadError(f"{MODEL_FILE} needs the package ai-edge-litert") from error
        try:
            interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise LoadError(f"Cannot build Interpreter from buffer. {error}") from error
        return interpreter


def load(path: Path, *, threads: int, check_method_names: bool) -> LiteModel:
    """Load a version's `model.tflite`.

    Raises:
        LoadError: as `LiteModel`.
    """
    content = (path / MODEL_FILE).read_bytes()
    return LiteModel(content, threads=threads, check_method_names=check_method_names)


def _checked(array: Array, signature: SignatureDef, alias: str) -> Array:
    given, wanted = tensors.number_of(array.dtype), signature.inputs[alias].dtype
    if given != wanted:
        raise RequestError(
            Code.INVALID_ARGUMENT,
            f"Expects {alias} to be {tensors.name_of(wanted)} but {tensors.name_of(given)} is provided",
        )
    return array


def _by_name(details: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {each["name"]: each for each in details}


def _signatures(
    content: bytes, inputs: Mapping[str, Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, SignatureDef]:
    signatures = _recorded(content)
    for signature in signatures.values():
        for infos, known, side in (
            (signature.inputs, inputs, "input"),
            (signature.outputs, outputs, "output"),
        ):
            for alias, info in infos.items():
                info.name = _known(info.name, known, f"Signature {side} {alias}")
    if signatures:
        return signatures
    made = SignatureDef(method_name=_PREDICT)
    for infos, known in ((made.inputs, inputs), (made.outputs, outputs)):
        for name in sorted(known):
            infos[_legacy(name)].CopyFrom(_tensor_info(known[name]))
    return {DEFAULT: made}


def _recorded(content: bytes) -> dict[str, SignatureDef]:
    from ai_edge_litert.schema_py_generated import Model
    from flatbuffers import flexbuffers

    model = Model.GetRootAs(content, 0)
    for metadata in map(model.Metadata, range(model.MetadataLength())):
        if metadata.Name() == _METADATA:
            recorded = flexbuffers.GetRoot(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes()).AsMap
            names = [key.AsKey for key in recorded.Keys]
            return {
                str(name): SignatureDef.FromString(bytes(recorded[str(name)].AsStringBytes)) for name in names
            }
    return {}


def _known(name: str, known: Mapping[str, object], whose: str) -> str:
    for each in (name, _legacy(name)):
        if each in known:
            return each
    raise LoadError(f"{whose} references an unknown tensor: Unknown tensor '{name}'.")


def _legacy(name: str) -> str:
    # Converters used to leave out the `:0` that TensorFlow's names end in.
    return name.split(":", 1)[0]


def _tensor_info(detail: Mapping[str, Any]) -> TensorInfo:
    # LiteRT gives strings as numpy's bytes type.
    dtype = np.dtype(detail["dtype"])
    info = TensorInfo(name=detail["name"], dtype=tensors.number_of(dtype))
    for size in detail["shape"]:
        info.tensor_shape.dim.add(size=int(size))
    return info
