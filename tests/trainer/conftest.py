"""Small data sets, an observer that remembers, and specs to start from."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.observer import EpochEnd, Interruption, Progress
from trainer.spec import TrainSpec

# Keras 3.15 saves its variables by np.array(tf.Variable), and TensorFlow 2.20's lacks NumPy 2's copy keyword.
KERAS_ON_NUMPY_2 = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
SERVICE_FIELDS = {"name", "export", "labels", "limits", "resources", "priority", "signature"}
EXAMPLES = Path(__file__).parents[2] / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(KERAS_ON_NUMPY_2))


class Recorder:
    """An observer that keeps what it is told, and asks for an end after so many batches."""

    def __init__(self, interruption: Interruption | None = None, after: int = 0) -> None:
        self.phases: list[str] = []
        self.notes: list[str] = []
        self.progresses: list[Progress] = []
        self.epochs: list[EpochEnd] = []
        self.diagnoses: list[Mapping[str, Any]] = []
        self.polls = 0
        self._interruption, self._after = interruption, after

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def progress(self, progress: Progress) -> None:
        self.progresses.append(progress)

    def epoch(self, epoch: EpochEnd) -> None:
        self.epochs.append(epoch)

    def pipeline(self, diagnosis: Mapping[str, Any]) -> None:
        self.diagnoses.append(diagnosis)

    def interruption(self) -> Interruption | None:
        self.polls += 1
        return self._interruption if self._interruption and self.polls >= self._after else None


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture(scope="session")
def example() -> Callable[[str], TrainSpec]:
    def read(name: str) -> TrainSpec:
        document = json.loads((EXAMPLES / f"{name}.json").read_text())
        return TrainSpec.model_validate(
            {key: value for key, value in document.items() if key not in SERVICE_FIELDS}
        )

    return read


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory) -> Path:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x=x.reshape(-1, 8, 8, 1).astype(np.float32), y=y.astype(np.int64))
    return path


@pytest.fixture(scope="session")
def breast_cancer_file(tmp_path_factory) -> Path:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    path = tmp_path_factory.mktemp("breast-cancer") / "breast_cancer.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(name.replace(" ", "_") for name in data.feature_names), "benign"])
        writer.writerows(
            [*map(float, row), int(label)] for row, label in zip(data.data, data.target, strict=True)
        )
    return path


@pytest.fixture(scope="session")
def images_file(tmp_path_factory) -> Path:
    """120 images of 6 x 6 in two classes: bright above, or bright below."""
    rng = np.random.default_rng(3)
    y = np.arange(120) % 2
    x = rng.uniform(0, 0.4, (120, 6, 6, 1)).astype(np.float32)
    x[y == 0, :3] += 0.5
    x[y == 1, 3:] += 0.5
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, x=x, y=y)
    return path


_IMAGES_SPEC: dict[str, Any] = {
    "model": {
        "kind": "sequential",
        "layers": [
            {"class_name": "Conv2D", "config": {"filters": 4, "kernel_size": 3}},
            {"class_name": "BatchNormalization"},
            {"class_name": "Activation", "config": {"activation": "relu"}},
            {"class_name": "GlobalAveragePooling2D"},
            {"class_name": "Dropout", "config": {"rate": 0.2}},
            {"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}},
        ],
    },
    "data": {
        "kind": "npz",
        "uri": "dataset://images",
        "features": "x",
        "label": "y",
        "split": {"by": "stratified", "fractions": [0.8, 0.2], "seed": 1},
        "pipeline": {
            "batch_size": 16,
            "augment": [
                {"class_name": "RandomTranslation", "config": {"height_factor": 0.1, "width_factor": 0.1}}
            ],
        },
    },
    "compile": {
        "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.01}},
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
    },
    "fit": {"epochs": 4},
    "seed": 11,
}


@pytest.fixture(scope="session")
def images_document() -> dict[str, Any]:
    """The JSON of a spec for the images: convolution, normalization, dropout, augmentation, Adam."""
    return _IMAGES_SPEC


@pytest.fixture
def images_body(images_document) -> dict[str, Any]:
    """A copy of that JSON, to be changed at will."""
    return copy.deepcopy(images_document)


@pytest.fixture
def run(tmp_path, images_file, recorder):
    """Fit a body on the images in a work folder of its own, unless told otherwise."""

    def run(body, observer=None, data_file=images_file, **options):
        from trainer.fit import fit

        spec = TrainSpec.model_validate(body)
        return fit(
            spec,
            data_file=data_file,
            workdir=tmp_path / "work",
            seed=11,
            observer=observer or recorder(),
            **options,
        )

    return run


class Killed(BaseException):
    """Nothing is written at such an end, as with SIGKILL."""


@pytest.fixture
def killed(run, recorder):
    """Run a body until the poll of that number, and no further."""

    def killed(body, polls, **options):
        class Killer(recorder):
            def interruption(self):
                if self.polls == polls:
                    raise Killed
                return super().interruption()

        with pytest.raises(Killed):
            run(body, Killer(), **options)

    return killed
