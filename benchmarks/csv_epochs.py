"""The first two epochs on a CSV file: of a job's training, and of TensorFlow's own reader of CSV."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from benchmarks.feeding import COLUMNS
from trainer.fit import fit
from trainer.observer import EpochEnd, Interruption, Progress
from trainer.source import DataFile
from trainer.spec import TrainSpec

STEPS_PER_EXECUTION = 16
_UNITS = 64


class Ends:
    """Takes the time of each epoch's end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def epoch(self, epoch: EpochEnd) -> None:  # noqa: ARG002
        """An epoch ended."""
        self.times.append(time.perf_counter())

    def phase(self, name: str) -> None: ...  # noqa: D102
    def note(self, message: str) -> None: ...  # noqa: D102
    def progress(self, progress: Progress) -> None: ...  # noqa: D102
    def pipeline(self, diagnosis: Mapping[str, Any]) -> None: ...  # noqa: D102
    def interruption(self) -> Interruption | None: ...  # noqa: D102


def epochs_of_job(file: Path, folder: Path, batch_size: int) -> tuple[float, float]:
    """The seconds from opening the raw file to the first epoch's end, and those of the second epoch."""
    ends = Ends()
    began = time.perf_counter()
    fit(
        TrainSpec.model_validate(
            {
                "model": {
                    "kind": "sequential",
                    "layers": [
                        {"class_name": "Dense", "config": {"units": _UNITS, "activation": "relu"}},
                        {"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}},
                    ],
                },
                "data": {
                    "kind": "csv",
                    "uri": "dataset://rows",
                    "features": COLUMNS,
                    "label": "y",
                    "pipeline": {"batch_size": batch_size},
                },
                "compile": {
                    "optimizer": "adam",
                    "loss": "binary_crossentropy",
                    "steps_per_execution": STEPS_PER_EXECUTION,
                },
                "fit": {"epochs": 2},
                "export_weights": "last",
            }
        ),
        data_file=DataFile(file, folder / "conversions"),
        workdir=folder / "work",
        seed=1,
        observer=ends,
    )
    return ends.times[0] - began, ends.times[1] - ends.times[0]


def epochs_of_make_csv_dataset(file: Path, batch_size: int) -> tuple[float, float]:
    """The same training on `tf.data.experimental.make_csv_dataset`, shuffled as it does by default."""
    keras.utils.clear_session()
    began = time.perf_counter()
    data = tf.data.experimental.make_csv_dataset(
        str(file), batch_size, label_name="y", num_epochs=1, shuffle=True, shuffle_seed=1
    ).map(lambda columns, label: (tf.stack([columns[name] for name in COLUMNS], axis=1), label))
    model = keras.Sequential(
        [
            keras.Input((len(COLUMNS),)),
            keras.layers.Dense(_UNITS, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", steps_per_execution=STEPS_PER_EXECUTION)
    times = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
            times.append(time.perf_counter())

    model.fit(data, epochs=2, verbose=0, callbacks=[Clock()])
    return times[0] - began, times[1] - times[0]
