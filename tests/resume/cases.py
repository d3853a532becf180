"""Three models, each with its own kinds of state, on small real data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 600
EPOCHS = 40
CHECKPOINT_EVERY = 7


@dataclass(frozen=True)
class Case:
    """A model's spec, its data file if any, the batches of one of its epochs, and the CPU devices it has."""

    name: str
    spec: dict[str, Any]
    data_file: Path | None
    steps: int
    cpus: int = 1


def cases(folder: Path) -> list[Case]:
    """Write the data sets into `folder` and return the cases over them."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.preprocessing import scale

    tumours, benign = load_breast_cancer(return_X_y=True)
    pixels, digit = load_digits(return_X_y=True)
    images = pixels[:ROWS].reshape(-1, 8, 8, 1) / 16
    return [
        _case(folder, "mlp", scale(tumours), benign, MLP, "binary_crossentropy", ADAMW),
        _case(folder, "cnn", images, digit[:ROWS], CNN, CLASSES, MOMENTUM, augment=AUGMENT),
        _case(folder, "lstm", images[..., 0], digit[:ROWS], LSTM, CLASSES, DECAYING),
    ]


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


CLASSES = "sparse_categorical_crossentropy"
ADAMW = _layer("AdamW", learning_rate=0.004)
MOMENTUM = _layer("SGD", learning_rate=0.1, momentum=0.9, nesterov=True, use_ema=True, ema_momentum=0.8)
DECAYING = _layer(
    "Adam",
    learning_rate=_layer("ExponentialDecay", initial_learning_rate=0.05, decay_steps=20, decay_rate=0.9),
)
MLP = [
    _layer("Dense", units=32, activation="relu"),
    _layer("Dropout", rate=0.4),
    _layer("Dense", units=16, activation="relu"),
    _layer("GaussianNoise", stddev=0.1),
    _layer("Dense", units=1, activation="sigmoid"),
]
CNN = [
    _layer("Conv2D", filters=8, kernel_size=3),
    _layer("BatchNormalization", momentum=0.9),
    _layer("Activation", activation="relu"),
    _layer("GlobalAveragePooling2D"),
    _layer("Dropout", rate=0.2),
    _layer("Dense", units=10, activation="softmax"),
]
LSTM = [
    _layer("LSTM", units=16, dropout=0.1, recurrent_dropout=0.1),
    _layer("Dense", units=10, activation="softmax"),
]
AUGMENT = [
    _layer("RandomTranslation", height_factor=0.1, width_factor=0.1),
    _layer("RandomRotation", factor=0.05),
]


def _case(
    folder: Path,
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    layers: list[dict[str, Any]],
    loss: str,
    optimizer: dict[str, Any],
    augment: list[dict[str, Any]] | None = None,
) -> Case:
    data_file = folder / f"{name}.npz"
    np.savez(data_file, x=x.astype(np.float32), y=y.astype(np.int64))
    spec = {
        "model": {"kind": "sequential", "layers": layers},
        "data": {
            "kind": "npz",
            "uri": f"dataset://{name}",
            "features": "x",
            "label": "y",
            "validation_split": 0.2,
            "pipeline": {"batch_size": 32, "augment": augment or []},
        },
        "compile": {"optimizer": optimizer, "loss": loss, "metrics": ["accuracy"]},
        "fit": {
            "epochs": EPOCHS,
            # So much better an epoch must be that training ends by itself, before the last epoch.
            "callbacks": [
                _layer("EarlyStopping", patience=2, min_delta=MIN_DELTA[name], restore_best_weights=True)
            ],
        },
        "checkpoint": {"every_steps": CHECKPOINT_EVERY},
        "seed": 23,
    }
    return Case(name, spec, data_file, steps=-(-int(len(y) * 0.8) // 32))


MIN_DELTA = {"mlp": 0.01, "cnn": 0.1, "lstm": 0.1}
