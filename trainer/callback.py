"""The contract of a training callback: Keras's name and options, and a state that survives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from trainer.discovery import discover
from trainer.forms import SpecModel

if TYPE_CHECKING:
    import keras
    import numpy as np

_PATHS = "paths belong to the job: leave it out"


class CallbackOptions(SpecModel):
    """Options under the names of the Keras callback's own arguments; paths are the job's."""

    refused: ClassVar[Mapping[str, str]] = {
        "filepath": _PATHS,
        "filename": _PATHS,
        "log_dir": _PATHS,
        "backup_dir": _PATHS,
    }


@dataclass(frozen=True)
class CallbackContext:
    """Where a callback may write: a folder of its own, which exists."""

    folder: Path


@dataclass(frozen=True)
class CallbackState:
    """What a callback needs to go on in another process: JSON values and arrays."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[np.ndarray, ...] = ()


class Callback(Protocol):
    """A module of `trainer.callbacks`."""

    NAME: str
    Options: type[CallbackOptions]

    @staticmethod
    def build(options: Any, context: CallbackContext) -> keras.callbacks.Callback:  # noqa: ANN401
        """Make the Keras callback."""

    @staticmethod
    def state(callback: Any) -> CallbackState:  # noqa: ANN401  # the module's own callback
        """Return what the callback knows at the end of an epoch."""

    @staticmethod
    def restore(callback: Any, state: CallbackState) -> None:  # noqa: ANN401
        """Put a state back; called after `on_train_begin`, which Keras's callbacks use to forget."""

    @staticmethod
    def best_weights(callback: Any) -> list[np.ndarray] | None:  # noqa: ANN401
        """Return the weights of the best epoch if this callback keeps them."""


@cache
def callbacks() -> dict[str, Callback]:
    """Return every callback by Keras's name for it."""
    found = discover("trainer.callbacks", "NAME", "Options", "build", "state", "restore", "best_weights")
    return {name: cast("Callback", module) for name, module in found.items()}
