"""The models that `benchmarks.serving` serves: `python -m benchmarks.serving_models FOLDER`.

For each NAME of `MODELS` it writes `FOLDER/NAME/1`, a SavedModel with a free batch axis; `FOLDER/NAME.onnx`,
the same network; `FOLDER/NAME.npz`: the rows `x` float32 (64, ...), what the model itself answers to them
`y` float32 (64, classes), and `input`, the name of the SavedModel's input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.plain_trainer import SEED, digits_cnn, layers

ROWS = 64


def mlp() -> keras.Model:
    """MLP 20-64-32-5."""
    dense = [layers.Dense(64, activation="relu"), layers.Dense(32, activation="relu")]
    return keras.Sequential([keras.Input((20,)), *dense, layers.Dense(5, activation="softmax")])


MODELS = {"mlp": mlp, "cnn": digits_cnn}


def main() -> None:
    """Make each model once, from a seed, and save it."""
    folder = Path(sys.argv[1])
    for name, make in MODELS.items():
        keras.utils.set_random_seed(SEED)
        model = make()
        x = np.random.default_rng(SEED).normal(size=(ROWS, *model.input_shape[1:])).astype(np.float32)
        y = np.asarray(model(x))
        np.savez(folder / f"{name}.npz", x=x, y=y, input=model.inputs[0].name)
        model.export(folder / name / "1", verbose=False)
        model.export(folder / f"{name}.onnx", format="onnx", verbose=False)


if __name__ == "__main__":
    main()
