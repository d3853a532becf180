"""The jobs of the harness: real, small, each with a seed of its own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from service.jobs import JobSpec
from trainer.spec import FitOptions

DATASET = "digits"
MOST_ATTEMPTS = 100
CHECKPOINT_EVERY_STEPS = 20


def digits() -> tuple[str, bytes]:
    """The 1,797 digits of scikit-learn as an upload: `x` float32 (rows, 8, 8, 1), `y` int64 (rows,)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        x=loaded.images.astype(np.float32)[..., np.newaxis],
        y=loaded.target.astype(np.int64),
    )
    return "digits.npz", buffer.getvalue()


def specs(*, epochs: int = 6) -> list[dict[str, Any]]:
    """Two models that share a name, and a third: an MLP, an MLP that stops early, a CNN with TFLite."""
    dense = {"class_name": "Dense", "config": {"units": 10, "activation": "softmax"}}
    mlp = [
        _layer("Flatten"),
        _layer("Dense", units=64, activation="relu"),
        _layer("Dropout", rate=0.3),
        dense,
    ]
    cnn = [
        _layer("Conv2D", filters=8, kernel_size=3, activation="relu"),
        _layer("BatchNormalization"),
        _layer("Flatten"),
        _layer("Dropout", rate=0.2),
        dense,
    ]
    patience = {"class_name": "EarlyStopping", "config": {"monitor": "val_loss", "patience": 3}}
    return [
        _spec("faults-mlp", mlp, seed=11, epochs=epochs),
        _spec("faults-cnn", cnn, seed=12, epochs=max(1, epochs - 2), export=[{"format": "tflite"}]),
        _spec("faults-mlp", mlp, seed=13, epochs=epochs, optimizer="sgd", callbacks=[patience]),
    ]


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


def _spec(
    name: str,
    layers: list[dict[str, Any]],
    *,
    seed: int,
    epochs: int,
    optimizer: str = "adam",
    export: list[dict[str, Any]] | None = None,
    callbacks: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    fit: dict[str, Any] = {"epochs": epochs, "callbacks": callbacks or []}
    spec = {
        "name": name,
        "model": {"kind": "sequential", "layers": [_layer("Rescaling", scale=0.0625), *layers]},
        "data": {
            "kind": "npz",
            "uri": f"dataset://{DATASET}",
            "features": "x",
            "label": "y",
            "split": {"by": "stratified", "fractions": [0.8, 0.1, 0.1], "seed": 7},
            "pipeline": {"shuffle": True, "batch_size": 32},
        },
        "compile": {
            "optimizer": optimizer,
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
        },
        "fit": fit,
        "export": export or [],
        "limits": {"max_attempts": MOST_ATTEMPTS},
        "seed": seed,
    }
    every = {"every_steps": CHECKPOINT_EVERY_STEPS}
    if "checkpoint" in JobSpec.model_fields:
        spec["checkpoint"] = every
    elif "checkpoint" in FitOptions.model_fields:
        fit["checkpoint"] = every
    return spec
