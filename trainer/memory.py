"""Whether a model's training fits the memory there is, told before it takes any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.architecture import PLUGIN, Base, Shape
from trainer.errors import OutOfMemoryError, SpecUnbuildableError
from trainer.inspecting import sketch

if TYPE_CHECKING:
    from trainer.spec import TrainSpec


def refuse_beyond(memory_bytes: int, spec: TrainSpec, rows: Mapping[str, Shape], base: Base | None) -> None:
    """Refuse a model whose weights, gradients and optimizer slots alone take more than that.

    What a plugin builds is not looked at: it may need values in order to be built.

    Raises:
        OutOfMemoryError: they do.
    """
    if PLUGIN in (spec.model.kind, base.model.kind if base else None):
        return
    try:
        kept = sketch(spec.model, rows, how=spec.compile, base=base).kept_bytes
    except SpecUnbuildableError:
        return  # told by who builds it for real, which may yet succeed
    if kept > memory_bytes:
        raise too_large(kept, memory_bytes)


def too_large(kept_bytes: int, memory_bytes: int) -> OutOfMemoryError:
    """Say what a model takes and what there is."""
    return OutOfMemoryError(
        f"the model's weights, gradients and optimizer slots take {shown(kept_bytes)}, "
        f"and {shown(memory_bytes)} are there",
        remedy="Make the model smaller, or raise limits.memory_bytes where the host has more.",
        location={"pointer": "/model"},
    )


def shown(size_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} GiB"
