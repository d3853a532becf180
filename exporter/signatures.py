"""What a SavedModel takes and gives, read from its file: names, dtypes and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from exporter.format import SIGNATURE
from exporter.preparation import CORE

# TensorFlow's protos, which carry no types; its tensors and their specs.
Proto: TypeAlias = Any
Tensor: TypeAlias = Any


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

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Self:
        """Describe tensors, or their specs, by name."""
        return cls(
            *(tuple(_described(name, side[name]) for name in sorted(side)) for side in (inputs, outputs))
        )

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


def changes(present: Mapping[str, Any], signatures: Mapping[str, Signature]) -> Iterator[str]:
    """Say how signatures differ from those of a manifest, which callers rely on; new ones are no change."""
    for name, was in present.items():
        if name not in signatures:
            yield f"signature {name!r} is gone"
            continue
        now = signatures[name].to_json()
        for side in ("inputs", "outputs"):
            before, after = _by_name(was[side]), _by_name(now[side])
            for tensor in sorted(before.keys() | after.keys()):
                if before.get(tensor) != after.get(tensor):
                    yield (
                        f"{name} {side[:-1]} {tensor!r} was {before.get(tensor, 'not there')}, "
                        f"is {after.get(tensor, 'not there')}"
                    )


def convertible(saved_model: Path) -> str:
    """Name the signature that other formats are made from: the model's own, which takes and gives numbers."""
    return CORE if CORE in signature_of(saved_model) else SIGNATURE


def _by_name(tensors: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Write tensors as people read them: float32 (*, 3)."""

    def written(shape: Sequence[int | None] | None) -> str:
        return (
            "of any shape" if shape is None else f"({', '.join('*' if n is None else str(n) for n in shape)})"
        )

    return {each["name"]: f"{each['dtype']} {written(each['shape'])}" for each in tensors}


def _tensors(infos: Proto) -> tuple[TensorInfo, ...]:
    import tensorflow as tf

    return tuple(
        TensorInfo(name, tf.dtypes.as_dtype(info.dtype).name, _shape(info.tensor_shape))
        for name, info in sorted(infos.items())
    )


def _described(name: str, tensor: Tensor) -> TensorInfo:
    rank_is_free = tensor.shape.rank is None
    return TensorInfo(name, tensor.dtype.name, None if rank_is_free else tuple(tensor.shape.as_list()))


def _shape(shape: Proto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dimension.size < 0 else dimension.size for dimension in shape.dim)
