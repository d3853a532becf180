"""What a SavedModel takes and gives, read from its file: names, dtypes and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from exporter.format import SIGNATURE
from exporter.preparation import CORE

# TensorFlow's protos, which carry no types.
Proto: TypeAlias = Any


@dataclass(frozen=True)
class TensorInfo:
    """One input or output; `shape` has None where the size is free, and is None where the rank is."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """One entry point of a SavedModel, with its tensors sorted by name."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    # Any: a JSON document.
    def to_json(self) -> dict[str, Any]:
        """Write the signature as it stands in a version's manifest."""
        return asdict(self)


def signature_of(saved_model: Path) -> Mapping[str, Signature]:
    """Read the signatures by name (`serving_default`, ...) without loading the model.

    Raises:
        FileNotFoundError: the folder holds no saved_model.pb.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    document = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    return {
        name: Signature(inputs=_tensors(signature.inputs), outputs=_tensors(signature.outputs))
        for name, signature in sorted(document.meta_graphs[0].signature_def.items())
        # SavedModel's own bookkeeping, as in __saved_model_init_op.
        if not name.startswith("__")
    }


def convertible(saved_model: Path) -> str:
    """Name the signature that other formats are made from: the model's own, which takes and gives numbers."""
    return CORE if CORE in signature_of(saved_model) else SIGNATURE


def _tensors(infos: Proto) -> tuple[TensorInfo, ...]:
    import tensorflow as tf

    return tuple(
        TensorInfo(name, tf.dtypes.as_dtype(info.dtype).name, _shape(info.tensor_shape))
        for name, info in sorted(infos.items())
    )


def _shape(shape: Proto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dimension.size < 0 else dimension.size for dimension in shape.dim)
