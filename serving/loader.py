"""A SavedModel in memory: the only file of this package that touches TensorFlow itself."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions, ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.python.framework import op_def_registry

from serving import batching_parameters, graph_state, tensors, tflite, warmup
from serving.batching_parameters import BatchingParameters
from serving.errors import Code, FlagError, LoadError, RequestError
from serving.servable import MOST_PLANS, QUICK_S, Servable
from serving.signatures import Plan
from serving.tensors import Array

_log = logging.getLogger(__name__)

# The session loader is marked as deprecated on every call; it is the one that gives a session.
tf.get_logger().setLevel(logging.ERROR)

# TensorFlow asks for it once, before it makes its first device (local_device.cc).
_POOL_A_SESSION = "TF_OVERRIDE_GLOBAL_THREADPOOL"
# A larger model isn't loaded twice: for a moment it would take twice the memory.
_LARGEST_TWICE_BYTES = 64 << 20
# A call is timed so often, and its best time taken.
_TRIES = 5

_INIT_SIGNATURES = {"__saved_model_init_op", "__saved_model_train_op"}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How sessions are made; 0 leaves a choice to TensorFlow, and threads within a call to its duration."""

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0
    check_method_names: bool = False
    prefer_tflite: bool = False
    warm: bool = True
    warmup_iterations: int = 1
    per_model_batching: bool = False


class SavedModel(Servable):
    """A version that a TensorFlow session runs."""

    def __init__(
        self,
        session: Any,  # noqa: ANN401
        signatures: Mapping[str, SignatureDef],
        *,
        row_wise: frozenset[str] = frozenset(),
        batching: BatchingParameters | None = None,
        check_method_names: bool = False,
    ) -> None:
        super().__init__(
            signatures, row_wise=row_wise, batching=batching, check_method_names=check_method_names
        )
        self._session = session
        self._callables: dict[Plan, Callable[..., list[Any]]] = {}
        self._quantized = {
            name
            for name, signature in signatures.items()
            if any(info.dtype in tensors.QUANTIZED for info in signature.outputs.values())
        }
        self._lock = threading.Lock()

    def run(self, plan: Plan, inputs: Mapping[str, Array]) -> list[Array]:
        """Feed `plan.inputs` and return `plan.outputs`; threads may call it at the same time.

        Raises:
            RequestError: with TensorFlow's own code and text, when the graph refuses the inputs.
        """
        call = self._callables.get(plan) or self._make_callable(plan)
        started = time.perf_counter()
        try:
            outputs = call(*[inputs[name] for name in plan.inputs])
        except tf.errors.OpError as error:
            raise RequestError(_code(error.error_code), error.message) from error
        self._note(time.perf_counter() - started)
        arrays = [np.asarray(output) for output in outputs]
        if plan.signature_name in self._quantized:
            # A session gives quantized numbers as the whole numbers that carry them.
            infos = [self.signatures[plan.signature_name].outputs[name] for name in plan.outputs]
            return [
                array.view(tensors.DTYPES[info.dtype]) if info.dtype in tensors.QUANTIZED else array
                for array, info in zip(arrays, infos, strict=True)
            ]
        return arrays

    def close(self) -> None:
        """Give the memory back; no call may be running."""
        self._callables.clear()
        self._session.close()

    def _make_callable(self, plan: Plan) -> Callable[..., list[Any]]:
        # Session.run spends 80 of its 100 microseconds on finding feeds and fetches by name, and the
        # function of tf.saved_model.load more. A callable is bound once; with the inter-op pool -1 the
        # graph runs on the calling thread. A session's variables also go when it is closed, while those of
        # tf.saved_model.load stay until the last reference.
        signature = self.signatures[plan.signature_name]
        options = CallableOptions()
        options.feed.extend(signature.inputs[name].name for name in plan.inputs)
        for name in sorted(set(signature.inputs) - set(plan.inputs)):
            options.feed.append(signature.inputs[name].name)
        options.fetch.extend(signature.outputs[name].name for name in plan.outputs)
        options.run_options.inter_op_thread_pool = -1
        defaults = [
            tensors.decode(signature.defaults[name], name)
            for name in sorted(set(signature.inputs) - set(plan.inputs))
        ]
        with self._lock:
            bound: Callable[..., list[Any]] = self._session._make_callable_from_options(options)
            call = bound if not defaults else lambda *feeds: bound(*feeds, *defaults)
            if len(self._callables) < MOST_PLANS:
                self._callables[plan] = call
        return call


def load(path: Path, options: LoadOptions) -> Servable:
    """Load a version's SavedModel (of TensorFlow 1 or 2), or its model.tflite where preferred, and warm it.

    Raises:
        LoadError: it can't be loaded, or a recorded warm-up request fails.
    """
    lite = options.prefer_tflite and (path / tflite.MODEL_FILE).is_file()
    servable = _load(path, options, lite=lite)
    decided = lite or not options.warm or options.intra_op_threads or _size_bytes(path) > _LARGEST_TWICE_BYTES
    if decided or not _is_quick(servable, path):
        return servable
    # Waking TensorFlow's threads takes longer than such a call does without them: MLP 20-64-32-5, 8 rows,
    # 100 microseconds on two threads and 25 on one.
    on_one = _load(path, replace(options, intra_op_threads=1), lite=False)
    chosen, other = (on_one, servable) if _is_quick(on_one, path) else (servable, on_one)
    other.close()
    return chosen


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (*path.glob("saved_model.pb*"), *path.glob("variables/*")))


def _load(path: Path, options: LoadOptions, *, lite: bool) -> Servable:
    servable: Servable | None = None
    try:
        servable = _load_lite(path, options) if lite else _load_saved_model(path, options)
        if options.warm:
            _warm(servable, path, options.warmup_iterations)
    except (
        tf.errors.OpError,
        FlagError,
        LoadError,
        RequestError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:
        if servable is not None:
            servable.close()
        raise LoadError(f"{path}: {getattr(error, 'message', None) or error}", _kind(error)) from error
    return servable


def _load_lite(path: Path, options: LoadOptions) -> Servable:
    return tflite.load(path, threads=options.intra_op_threads, check_method_names=options.check_method_names)


def _load_saved_model(path: Path, options: LoadOptions) -> Servable:
    per_model = batching_parameters.of_version(path) if options.per_model_batching else None
    # Otherwise the first session would decide on the threads of all.
    os.environ.setdefault(_POOL_A_SESSION, "1")
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=_config(options))
    try:
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(session, options.tags, str(path))
    except BaseException:
        session.close()
        raise
    # Nothing may be added to a graph that threads run: make sure that nothing is.
    graph.finalize()
    signatures = {
        name: signature for name, signature in loaded.signature_def.items() if name not in _INIT_SIGNATURES
    }
    return SavedModel(
        session,
        signatures,
        row_wise=graph_state.row_wise(loaded, _is_stateful),
        batching=per_model,
        check_method_names=options.check_method_names,
    )


def _warm(servable: Servable, path: Path, iterations: int) -> None:
    records = 0
    for record in warmup.records(path):
        for _ in range(max(1, iterations)):
            warmup.replay(servable, record)
        records += 1
    if records == 0:
        _warm_all_with_zeros(servable)
    servable.recent_s = 0.0


def _is_quick(servable: Servable, path: Path) -> bool:
    """Try what it was warmed with: the first recorded request, or a row of zeros for each signature."""
    record = next(warmup.records(path), None)
    times = []
    for _ in range(_TRIES):
        servable.recent_s = 0.0
        if record is None:
            _warm_all_with_zeros(servable)
        else:
            warmup.replay(servable, record)
        times.append(servable.recent_s)
    servable.recent_s = 0.0
    return 0 < min(times) < QUICK_S


def _warm_all_with_zeros(servable: Servable) -> None:
    for name, signature in servable.signatures.items():
        _warm_with_zeros(servable, name, signature)


def _warm_with_zeros(servable: Servable, name: str, signature: SignatureDef) -> None:
    """Run a signature on one row of zeros, so that its first caller doesn't pay for graph optimization."""
    inputs = {}
    for alias, info in signature.inputs.items():
        dtype = tensors.DTYPES.get(info.dtype)
        if dtype is None or not info.name or info.tensor_shape.unknown_rank:
            return
        shape = [1 if dimension.size < 0 else dimension.size for dimension in info.tensor_shape.dim]
        inputs[alias] = np.full(shape, b"", dtype) if info.dtype == tensors.STRING else np.zeros(shape, dtype)
    try:
        servable.run(servable.plan(name, list(inputs), ()), inputs)
    except RequestError as error:
        # Not every signature takes zeros (a parser of serialized examples doesn't), and none has to.
        _log.debug("warm_up_refused signature=%s error=%s", name, error)


def _config(options: LoadOptions) -> ConfigProto:
    config = ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads,
        inter_op_parallelism_threads=options.inter_op_threads,
        allow_soft_placement=True,
    )
    # Several servers and a trainer may share one device: take what is needed, not all there is.
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    return config


def _is_stateful(operation: str) -> bool:
    definition = op_def_registry.get(operation)
    return definition is None or bool(definition.is_stateful)


def _kind(error: Exception) -> Code:
    if isinstance(error, tf.errors.OpError):
        return _code(error.error_code)
    if isinstance(error, LoadError):
        return error.kind
    if isinstance(error, RequestError):
        return error.code
    return Code.INVALID_ARGUMENT if isinstance(error, FlagError) else Code.UNKNOWN


def _code(number: int) -> Code:
    return next((code for code in Code if code.number == number), Code.UNKNOWN)
