"""TensorFlow.js, for browsers and node: a graph model, its weights whole, in 16 bits or in 8."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from exporter.format import FormatOptions, Loaded, Runtime, Tolerance
from exporter.signatures import convertible
from exporter.tfjs import CONVERTER, FOLDER, NODE

if TYPE_CHECKING:
    from exporter.format import Arrays

NAME = "tfjs"
# A folder: model.json, and beside it the weights in shards.
PATH = "assets.extra/{name}"
REQUIRES = ("tensorflow",)
RUNTIME = Runtime("@tensorflow/tfjs-core", "exporter.tfjs.session")


class Options(FormatOptions):
    """What a user may choose."""

    quantization: Literal["float16", "uint8"] | None = Field(
        default=None,
        description="How kernels and embeddings are stored: float16 halves their bytes, uint8 makes a "
        "quarter of them. They are float32 again once loaded.",
    )

    def variant(self) -> str | None:
        """Name the quantization."""
        return self.quantization


def missing() -> tuple[str, ...]:
    """Name what beside Python modules would have to be installed here, each with how."""
    found = {
        "node (install Node.js 18 or newer)": shutil.which(NODE) is not None,
        f"tensorflowjs in {CONVERTER} (`make install` brings it where npm is)": (
            CONVERTER / "tensorflowjs"
        ).is_dir(),
        f"@tensorflow/tfjs-core in {FOLDER} (`make install` brings it where npm is)": (
            FOLDER / "node_modules" / "@tensorflow" / "tfjs-core"
        ).is_dir(),
    }
    return tuple(part for part, there in found.items() if not there)


def tolerance(options: Options) -> Tolerance:
    """Hold float32 to the last digits, float16 to two; hold uint8 to the task, or to a tenth of the range."""
    if options.quantization == "uint8":
        return Tolerance(difference=0.1, scale="range", metric_delta=0.02)
    return Tolerance(difference=1e-5 if options.quantization is None else 1e-2)


def convert(
    saved_model: Path,
    destination: Path,
    options: Options,
    representative: Arrays,  # noqa: ARG001
) -> str:
    """Convert the model's own signature, its names kept."""
    from exporter.tfjs.conversion import convert as convert_graph

    version = convert_graph(saved_model, destination, convertible(saved_model), options.quantization)
    weights = f"{options.quantization or 'float32'} weights"
    return f"tensorflowjs {version} convert_tf_saved_model, control_flow_v2, {weights}"


def load(path: Path) -> Loaded:
    """Load in node with TensorFlow.js's CPU backend; a call's time includes the way to node and back."""
    from exporter.tfjs.session import Session

    session = Session(path)
    return Loaded(session.predict, version=session.version, close=session.close)
