"""Keras's legacy HDF5 file, for tools that read no other; best effort, as Keras itself has left it behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.format import FormatOptions, Loaded, Runtime, Tolerance

if TYPE_CHECKING:
    from exporter.endpoint import Endpoint

NAME = "h5"
PATH = "assets.extra/{name}.h5"
REQUIRES = ("keras", "h5py")
RUNTIME = Runtime("keras", "keras")


class Options(FormatOptions):
    """Nothing to choose."""


def tolerance(options: Options) -> Tolerance:  # noqa: ARG001 - the contract's signature
    """The same layers and weights; what is left is the order of float32 sums at another batch size."""
    return Tolerance(difference=1e-5)


def write(endpoint: Endpoint, destination: Path, options: Options) -> str:  # noqa: ARG001
    """Save layers and weights.

    Raises:
        ValueError: the model is subclassed; of its call HDF5 keeps nothing.
    """
    import keras

    from exporter.weights import claim_room

    if getattr(endpoint.model, "inputs", None) is None:
        raise ValueError("HDF5 holds no subclassed model; the format keras does")
    destination.parent.mkdir(parents=True, exist_ok=True)
    claim_room(endpoint.model, destination)
    keras.saving.save_model(endpoint.model, destination, include_optimizer=False)
    return f"keras {keras.__version__} save_model to HDF5, which is legacy: best effort"


def load(path: Path) -> Loaded:
    """Load with Keras, which runs no code out of the file."""
    from exporter.reloading import in_keras

    return in_keras(path)
