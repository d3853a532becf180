"""A small case for every callback, sample plugin, precision, strategy and source of data."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from tests.resume.cases import Case
from tests.trainer.sources.written import write
from trainer.callback import callbacks
from trainer.source import sources

ROWS, STEPS, EPOCHS = 120, 6, 5
CALLBACKS: dict[str, dict[str, Any]] = {
    "CSVLogger": {},
    "EarlyStopping": {"monitor": "loss", "patience": 2, "min_delta": 0.05, "restore_best_weights": True},
    "LearningRateScheduler": {
        "schedule": {
            "class_name": "ExponentialDecay",
            "config": {"initial_learning_rate": 0.02, "decay_steps": 1, "decay_rate": 0.7},
        }
    },
    "ModelCheckpoint": {"monitor": "loss", "save_best_only": True},
    "ReduceLROnPlateau": {"monitor": "loss", "factor": 0.5, "patience": 1, "min_delta": 10, "cooldown": 1},
    "SwapEMAWeights": {"swap_on_epoch": True},
    "TensorBoard": {"histogram_freq": 1, "update_freq": "batch"},
    "TerminateOnNaN": {},
}
CLASSES = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
PLUGINS: dict[str, dict[str, Any]] = {
    "subclassed_mlp": {"args": {"hidden": [8], "classes": 2}, "compile": CLASSES},
    "two_tower": {
        "args": {"users": 5, "items": 7, "units": 4},
        "data": {"features": {"user": "user", "item": "item"}},
        "compile": {"optimizer": "adam", "loss": "binary_crossentropy"},
    },
    "gan": {"args": {"features": 6, "units": 8}, "data": {"label": None}},
    "contrastive": {"args": {"units": 8}, "data": {"label": None}, "compile": {"optimizer": "adam"}},
    "gradient_loop": {"compile": CLASSES},
}


def parts(folder: Path) -> dict[str, Case]:
    """Write the rows into `folder`; the cases by name, those of sources by `source:` and their kind."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(ROWS, 6)).astype(np.float32)
    columns = {"user": rng.integers(0, 5, ROWS), "item": rng.integers(0, 7, ROWS)}
    file = folder / "rows.npz"
    np.savez(file, x=x, y=(x[:, 0] > 0).astype(np.int64), **columns)
    found = {name: _with_callback(name, file) for name in callbacks()}
    found |= {name: _plugin(name, section, file) for name, section in PLUGINS.items()}
    for precision in ("mixed_float16", "mixed_bfloat16"):
        found[precision] = Case(precision, _spec(resources={"precision": precision}), file, STEPS)
    found |= {f"source:{kind}": _source(kind, folder) for kind in sources()}
    mirrored = _spec(resources={"strategy": "mirrored"})
    return found | {"mirrored": Case("mirrored", mirrored, file, STEPS, cpus=2)}


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


def _spec(**sections: Any) -> dict[str, Any]:
    layers = [
        _layer("Dense", units=8, activation="relu"),
        _layer("BatchNormalization"),
        _layer("Dropout", rate=0.3),
        _layer("Dense", units=2, activation="softmax"),
    ]
    spec = {
        "model": {"kind": "sequential", "layers": layers},
        "data": {
            "kind": "npz",
            "uri": "dataset://rows",
            "features": "x",
            "label": "y",
            "validation_split": 0.2,
            "pipeline": {"batch_size": 16},
        },
        "compile": {**CLASSES, "optimizer": _layer("Adam", learning_rate=0.01)},
        "fit": {"epochs": EPOCHS},
        "checkpoint": {"every_steps": 2},
        "seed": 11,
    }
    return copy.deepcopy(spec | sections)


def _with_callback(name: str, file: Path) -> Case:
    spec = _spec()
    spec["fit"]["callbacks"] = [_layer(name, **CALLBACKS[name])]
    if name == "SwapEMAWeights":
        spec["compile"]["optimizer"]["config"] |= {"use_ema": True, "ema_momentum": 0.7}
    return Case(name, spec, file, STEPS)


def _plugin(name: str, section: dict[str, Any], file: Path) -> Case:
    spec = _spec(model={"kind": "plugin", "name": name, "args": section.get("args", {})})
    spec["data"] |= section.get("data", {})
    del spec["compile"]
    if "compile" in section:
        spec["compile"] = section["compile"]
    return Case(name, spec, file, STEPS)


def _source(kind: str, folder: Path) -> Case:
    written = write(kind, folder, ROWS)
    spec = _spec()
    spec["data"] = {
        "kind": kind,
        **({} if written.file is None else {"uri": f"dataset://{kind}"}),
        **written.data,
        "split": {"fractions": [0.8, 0.2]},
        "pipeline": {"batch_size": 16},
    }
    if kind == "image_folder":
        spec["model"]["layers"][:0] = [_layer("Rescaling", scale=1 / 255), _layer("Flatten")]
    return Case(f"source:{kind}", spec, written.file, STEPS)
