"""The contract of an export format, and the discovery of those there are.

A format is one module in `exporter/formats/`. It is either written from the live Keras model in the training
process (`WrittenFormat`) or converted from the SavedModel folder in a child process (`ConvertedFormat`).
It imports TensorFlow and the like inside functions only: the API process reads it for its schemas.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy.typing as npt

    from exporter.endpoint import Endpoint
    from exporter.signatures import Signature

    Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
    Predict: TypeAlias = Callable[[Arrays], Arrays]

SIGNATURE = "serving_default"
"""What a SavedModel is asked by default; other formats carry it, or `core` where requests are prepared."""


class FormatOptions(BaseModel):
    """What a user may choose about a format; each format derives its `Options` from this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def variant(self) -> str | None:
        """Say what sets this choice apart in the artifact's default name; None for the plain form."""
        return None


@dataclass(frozen=True)
class Tolerance:
    """How far an artifact's answers `a` may be from the model's answers `b`.

    Without `metric_delta` every number must satisfy |a - b| <= difference * max(1, |b|); with scale "range",
    |b| stands for the largest |b| of the output, as the step of a quantized tensor depends on its range.
    With `metric_delta` and known targets the task metric may change by that much (one row at least) instead.
    """

    difference: float
    scale: Literal["value", "range"] = "value"
    metric_delta: float | None = None


@dataclass(frozen=True)
class Loaded:
    """An artifact in its own runtime.

    `predict` takes and gives numpy arrays by the names of the signature; the first axis is the batch: of
    `batch_size` rows where the artifact takes no other number. `signature` describes the artifact's own
    tensors where its runtime tells them: their dtypes may differ from those that `predict` takes and gives.
    `version` is the runtime's where that is no Python distribution. `close` ends what the runtime started: a
    process of its own.
    """

    predict: Predict
    batch_size: int | None = None
    signature: Signature | None = None
    version: str | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class StandIn:
    """The model in another form, to convert from where the version's own SavedModel doesn't do.

    `recipe` says in a few words what is different. Entries of one export whose stand-ins have the same `name`
    (letters, digits, hyphens) share one SavedModel.
    """

    name: str
    endpoint: Endpoint
    recipe: str


class Runtime(NamedTuple):
    """The program that runs an artifact: its module loads it, its distribution is the version's owner.

    Of a distribution that isn't Python's, what is loaded states the version (`Loaded.version`).
    """

    distribution: str
    module: str


Options_contra = TypeVar("Options_contra", bound=FormatOptions, contravariant=True)


@runtime_checkable
class Format(Protocol[Options_contra]):
    """What each module in `exporter/formats/` declares."""

    NAME: str
    PATH: str
    """Where the artifact lies in the version's folder; `{name}` stands for the artifact's name."""
    REQUIRES: tuple[str, ...]
    """Top-level modules without which the format can't be made here."""
    RUNTIME: Runtime
    Options: type[FormatOptions]

    def tolerance(self, options: Options_contra) -> Tolerance:
        """State how equal is equal for these options."""
        ...

    def load(self, path: Path) -> Loaded:
        """Load the artifact in its own runtime."""
        ...


@runtime_checkable
class WrittenFormat(Format[Options_contra], Protocol[Options_contra]):
    """A format written from the live Keras model, in the training process."""

    def write(self, endpoint: Endpoint, destination: Path, options: Options_contra) -> str:
        """Write the artifact and return the recipe: how it was made, in one line."""
        ...


@runtime_checkable
class ConvertedFormat(Format[Options_contra], Protocol[Options_contra]):
    """A format converted from the SavedModel folder, in a child process that may crash or hang."""

    def convert(
        self, saved_model: Path, destination: Path, options: Options_contra, representative: Arrays
    ) -> str:
        """Write the artifact and return the recipe.

        `representative` holds training rows for calibration, by input name.
        """
        ...


@runtime_checkable
class StandInFormat(ConvertedFormat[Options_contra], Protocol[Options_contra]):
    """A converted format for which some models must be written in another form first."""

    def stand_in(self, endpoint: Endpoint, options: Options_contra) -> StandIn | None:
        """Return what to convert from, in the training process; None for the version's own SavedModel.

        Raises:
            ValueError: the model can't become this format with these options; the message says what can.
        """
        ...


@runtime_checkable
class DemandingFormat(Protocol):
    """A format that needs more than Python modules, as a program of its own."""

    def missing(self) -> tuple[str, ...]:
        """Name what beyond `REQUIRES` would have to be installed here, each with how."""
        ...


# Any: each has options of its own.
AnyFormat: TypeAlias = WrittenFormat[Any] | ConvertedFormat[Any]


@cache
def formats() -> Mapping[str, AnyFormat]:
    """Find the formats by name, in alphabetic order.

    Raises:
        TypeError: a module in `exporter/formats/` doesn't keep the contract.
    """
    from exporter import formats as package

    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name)
    ]
    for module in modules:
        # runtime_checkable looks at presence alone, which is what a misspelt declaration lacks.
        if not isinstance(module, WrittenFormat | ConvertedFormat):
            raise TypeError(
                f"{module.__name__} must declare NAME, PATH, REQUIRES, RUNTIME, Options, tolerance, load "
                "and either write or convert"
            )
    return MappingProxyType({module.NAME: module for module in modules})


def missing(format_: AnyFormat) -> tuple[str, ...]:
    """Name what would have to be installed here to make this format; empty when it is feasible."""
    modules = tuple(module for module in format_.REQUIRES if importlib.util.find_spec(module) is None)
    return (*modules, *(format_.missing() if isinstance(format_, DemandingFormat) else ()))
