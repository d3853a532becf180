"""Train on more rows than memory holds: reads its order from stdin, and answers with one JSON line."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import psutil

from benchmarks.csv_epochs import Ends
from benchmarks.feeding import COLUMNS
from trainer.fit import fit
from trainer.source import DataFile
from trainer.spec import TrainSpec
from trainer.warming import warm_up


def main() -> None:
    """Follow the order: `file`, `work`, `headroom` (bytes beyond what the imports hold) and `batch_size`."""
    order = json.loads(sys.stdin.read())
    warm_up()
    process = psutil.Process()
    cap = process.memory_info().rss + order["headroom"]
    peak = [0]

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    ends = Ends()
    layers = [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}]
    spec = {
        "model": {"kind": "sequential", "layers": layers},
        "data": {
            "kind": "parquet",
            "uri": "dataset://rows",
            "features": COLUMNS,
            "label": "y",
            "pipeline": {"batch_size": order["batch_size"]},
        },
        "compile": {"optimizer": "sgd", "loss": "binary_crossentropy", "steps_per_execution": 1},
        "fit": {"epochs": 2},
        "export_weights": "last",
    }
    file = Path(order["file"])
    trained = fit(
        TrainSpec.model_validate(spec),
        data_file=DataFile(file, file.parent / "conversions"),
        workdir=Path(order["work"]),
        seed=1,
        observer=ends,
        memory_bytes=order["headroom"],
    )
    assert trained.epochs_run == 2
    told = {
        "cap_bytes": cap,
        "peak_bytes": peak[0],
        "decoded_bytes": order["headroom"] * 4,
        "epoch_s": ends.times[1] - ends.times[0],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
