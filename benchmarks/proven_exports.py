"""Export a model to every format and prove each, in one process; the sizes and latencies on stdout.

`python -m benchmarks.proven_exports MODEL.keras ROWS.npz OUT [--timed]`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

QUANTIZATIONS = {
    "saved_model": (None,),
    "keras": (None,),
    "h5": (None,),
    "tflite": (None, "float16", "dynamic", "int8", "int8_io"),
    "onnx": (None,),
    "tfjs": (None, "float16", "uint8"),
}
NAMES = tuple(
    format_ if quantization is None else f"{format_}-{quantization}"
    for format_, quantizations in QUANTIZATIONS.items()
    for quantization in quantizations
)


def main() -> None:
    """Export, prove, and print one JSON object: bytes and milliseconds by artifact, and Keras's own."""
    import keras

    from exporter.entries import read_entries
    from exporter.export import export
    from exporter.samples import Samples

    file, data, out = (Path(argument) for argument in sys.argv[1:4])
    model = keras.saving.load_model(file)
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    entries = [
        {"format": format_} | ({} if quantization is None else {"quantization": quantization})
        for format_, quantizations in QUANTIZATIONS.items()
        for quantization in quantizations
    ]
    timed = "--timed" in sys.argv
    artifacts = export(
        model,
        read_entries(entries),
        held_out=Samples({"image": x[1400:]}, y[1400:]),
        training=Samples({"image": x[:1400]}),
        out=out,
        timed=timed,
    )
    told = {
        artifact.name: {
            "bytes": artifact.size_bytes,
            "ms": {rows: each.median for rows, each in (artifact.latency_ms or {}).items()},
        }
        for artifact in artifacts
    }
    if timed:
        told["model.predict"] = {"bytes": 0, "ms": {rows: _predict_ms(model, x[:rows]) for rows in (1, 64)}}
    sys.stdout.write(json.dumps(told) + "\n")


def _predict_ms(model: object, rows: np.ndarray) -> float:
    model.predict(rows, verbose=0)  # type: ignore[attr-defined]
    times = []
    for _ in range(20):
        began = time.perf_counter()
        model.predict(rows, verbose=0)  # type: ignore[attr-defined]
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


if __name__ == "__main__":
    main()
