"""The contract of a training callback: Keras's name and options, and a state that survives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from trainer.compiling import CompileOptions
from trainer.discovery import discover
from trainer.forms import SpecModel

if TYPE_CHECKING:
    import keras
    import numpy as np

RATE_IS_SCHEDULED = (
    "the optimizer's learning_rate is a schedule, which sets it at every step: give a number there, "
    "or leave the callback out"
)
_PATHS = "paths belong to the job: leave it out"


class CallbackOptions(SpecModel):
    """Options under the names of the Keras callback's own arguments; paths are the job's."""

    refused: ClassVar[Mapping[str, str]] = {
        "filepath": _PATHS,
        "filename": _PATHS,
        "log_dir": _PATHS,
        "backup_dir": _PATHS,
    }

    def unmet(self, how: CompileOptions) -> str:  # noqa: ARG002 - most go with any
        """Say what this callback needs and `compile` (`how`) does not give it; nothing if all is well."""
        return ""


@dataclass(frozen=True)
class CallbackContext:
    """Where a callback may write, and what it is a callback of."""

    folder: Path
    """Its own; it exists, and on a run that starts over it is empty."""


@dataclass(frozen=True)
class CallbackState:
    """What a callback needs to go on in another process: JSON values and arrays."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[np.ndarray, ...] = ()


class Keeper(Protocol):
    """What carries a callback's state from one attempt to the next."""

    @staticmethod
    def state(callback: Any) -> CallbackState:  # noqa: ANN401  # the module's own callback
        """Return what the callback knows at the end of an epoch."""

    @staticmethod
    def restore(callback: Any, state: CallbackState) -> None:  # noqa: ANN401
        """Put a state back; called after `on_train_begin`, which Keras's callbacks use to forget."""


class Callback(Keeper, Protocol):
    """A module of `trainer.callbacks`."""

    NAME: str
    Options: type[CallbackOptions]

    @staticmethod
    def build(options: Any, context: CallbackContext) -> keras.callbacks.Callback:  # noqa: ANN401
        """Make the Keras callback."""


class KeepsBest(Protocol):
    """What a callback's module has besides if the callback keeps the weights of the best epoch."""

    @staticmethod
    def best_weights(callback: Any) -> list[np.ndarray] | None:  # noqa: ANN401
        """Return them if this callback was asked to keep them."""


class Closes(Protocol):
    """What a callback's module has besides if the callback holds files open."""

    @staticmethod
    def close(callback: Any) -> None:  # noqa: ANN401
        """Close them; called whenever a fit ends, by an error as well."""


class Writes(Protocol):
    """What a callback's module has besides if the callback writes something that the job's owner wants."""

    ARTIFACT: str
    """Its name among the version's artifacts."""

    @staticmethod
    def written(callback: Any) -> Path:  # noqa: ANN401
        """Return the file, or the folder."""


def best_weights(module: Keeper, callback: Any) -> list[np.ndarray] | None:  # noqa: ANN401
    """The weights of the best epoch, if this callback keeps any."""
    keeps = getattr(module, "best_weights", None)
    return None if keeps is None else cast("KeepsBest", module).best_weights(callback)


def close(module: Keeper, callback: Any) -> None:  # noqa: ANN401
    """Close what this callback holds open, if anything."""
    if hasattr(module, "close"):
        cast("Closes", module).close(callback)


def artifact(module: Keeper, callback: Any) -> tuple[str, Path] | None:  # noqa: ANN401
    """Name what this callback wrote for the job's owner, and say where it is, if there is any."""
    if not hasattr(module, "ARTIFACT"):
        return None
    writes = cast("Writes", module)
    path = writes.written(callback)
    return (writes.ARTIFACT, path) if path.exists() else None


@cache
def callbacks() -> dict[str, Callback]:
    """Return every callback by Keras's name for it."""
    found = discover("trainer.callbacks", "NAME", "Options", "build", "state", "restore")
    return {name: cast("Callback", module) for name, module in found.items()}
