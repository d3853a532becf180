"""Keras's own file, for who opens the model in Python again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from exporter.format import FormatOptions, Loaded, Runtime, Tolerance

if TYPE_CHECKING:
    import keras

    from exporter.endpoint import Endpoint

NAME = "keras"
PATH = "assets.extra/{name}.keras"
REQUIRES = ("keras", "h5py")
RUNTIME = Runtime("keras", "keras")


class Options(FormatOptions):
    """What a user may choose."""

    include_optimizer: bool = Field(
        default=False,
        description="Keep how the model was compiled and what its optimizer knows, to go on training.",
    )


def tolerance(options: Options) -> Tolerance:  # noqa: ARG001 - the contract's signature
    """The same layers and weights; what is left is the order of float32 sums at another batch size."""
    return Tolerance(difference=1e-5)


def write(endpoint: Endpoint, destination: Path, options: Options) -> str:
    """Save the model whole."""
    import keras

    from exporter.weights import optimizers_left_out

    destination.parent.mkdir(parents=True, exist_ok=True)
    if options.include_optimizer:
        endpoint.model.save(destination)
        return f"keras {keras.__version__} save, with the optimizer"
    with optimizers_left_out(endpoint.model), _uncompiled(endpoint.model):
        endpoint.model.save(destination)
    return f"keras {keras.__version__} save, without the optimizer"


@contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """Have Keras write nothing of `compile`: it would look for the optimizer's variables at each load."""
    model.get_compile_config = dict
    try:
        yield
    finally:
        del model.get_compile_config


def load(path: Path) -> Loaded:
    """Load with Keras, which runs no code out of the file."""
    from exporter.reloading import in_keras

    return in_keras(path)
