"""TensorFlow Serving's batching parameters, of the server and of a version, read without TensorFlow."""

import os
from dataclasses import dataclass
from pathlib import Path

from serving import text_protos
from serving.errors import FlagError

# Where a version's own parameters lie (saved_model_bundle_source_adapter.cc of TensorFlow Serving).
PER_MODEL_FILE = "batching_params.pbtxt"


@dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """TensorFlow Serving's BatchingParameters, with its defaults; sizes are rows."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False

    def padded_rows(self, rows: int) -> int:
        """Return the smallest allowed batch size that holds so many rows."""
        return min((size for size in self.allowed_batch_sizes if size >= rows), default=rows)


def read(path: Path) -> BatchingParameters:
    """Read a batching parameters file in protobuf text format.

    Raises:
        FlagError: the file doesn't parse, or its values contradict each other.
    """
    message = text_protos.read(path, "BatchingParameters")
    given = {
        name: getattr(message, name).value
        for name in (
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
            "enable_large_batch_splitting",
        )
        if message.HasField(name)
    }
    parameters = BatchingParameters(
        **given,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
    _check(parameters)
    return parameters


def of_version(path: Path) -> BatchingParameters | None:
    """Return the parameters that lie in a version's folder, or None.

    Raises:
        FlagError: as `read`.
    """
    return read(path / PER_MODEL_FILE) if (path / PER_MODEL_FILE).is_file() else None


def _check(parameters: BatchingParameters) -> None:
    for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
        if getattr(parameters, name) < 1:
            raise FlagError(f"{name} must be positive; was {getattr(parameters, name)}")
    if parameters.batch_timeout_micros < 0:
        raise FlagError(f"batch_timeout_micros must be non-negative; was {parameters.batch_timeout_micros}")
    sizes = parameters.allowed_batch_sizes
    if any(size <= before for before, size in zip((0, *sizes), sizes, strict=False)):
        raise FlagError("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != parameters.max_batch_size:
        raise FlagError(
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; "
            f"expected {parameters.max_batch_size}"
        )
