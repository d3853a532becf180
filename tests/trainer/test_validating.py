"""A dry run tells what training would fail for, all of it at once, and trains nothing."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.errors import OutOfMemoryError
from trainer.spec import TrainSpec
from trainer.validating import validate

KIB = 1024


def dense(units: int, activation: str | None = None) -> dict:
    return {"class_name": "Dense", "config": {"units": units, "activation": activation}}


@pytest.fixture
def looked_at(tmp_path):
    """Validate a small spec on rows of four numbers and this target."""

    def looked_at(target, layers, loss, **changes):
        file = tmp_path / "rows.npz"
        rng = np.random.default_rng(1)
        np.savez(file, x=rng.normal(size=(len(target), 4)).astype("float32"), y=np.asarray(target))
        document = {
            "model": {"kind": "sequential", "layers": layers},
            "data": {"kind": "npz", "uri": "dataset://rows", "features": "x", "label": "y"},
            "compile": {"optimizer": "adam", "loss": loss},
        }
        memory_bytes = changes.pop("memory_bytes", None)
        for path, value in changes.items():
            section, _, field = path.partition("__")
            document.setdefault(section, {})[field] = value
        spec = TrainSpec.model_validate(document)
        return validate(spec, data_file=file, seed=1, memory_bytes=memory_bytes)

    return looked_at


def faults(answer) -> list[tuple[str, str]]:
    return [(fault["pointer"], fault["detail"]) for fault in answer["faults"]]


CLASSES = [0, 1, 2, 1, 0, 2]


def test_a_sound_spec_has_neither_faults_nor_warnings(looked_at):
    answer = looked_at(CLASSES, [dense(3, "softmax")], "sparse_categorical_crossentropy")
    assert (answer["faults"], answer["warnings"]) == ([], [])
    assert answer["rows"] == {"train": 6}
    assert answer["model"]["parameters"] == 15


@pytest.mark.parametrize(
    ("target", "layers", "loss", "pointer", "words"),
    [
        (CLASSES, [dense(2, "softmax")], "sparse_categorical_crossentropy", "/model", "needs 3 units"),
        ([1, 2, 3], [dense(3, "softmax")], "sparse_categorical_crossentropy", "/model", "needs 4 units"),
        ([-1, 1, 0], [dense(3, "softmax")], "sparse_categorical_crossentropy", "/data/label", "begin at 0"),
        ([0.5, 1.0], [dense(3, "softmax")], "sparse_categorical_crossentropy", "/data/label", "holds 0.5"),
        (np.eye(3), [dense(3, "softmax")], "sparse_categorical_crossentropy", "/data/label", "one-hot rows"),
        (CLASSES, [dense(3, "softmax")], "categorical_crossentropy", "/data/label", "sparse_categorical"),
        (CLASSES, [dense(1, "sigmoid")], "binary_crossentropy", "/data/label", "from 0 to 1"),
        ([0, 1, 1], [dense(3, "sigmoid")], "binary_crossentropy", "/data/label", "rows of shape (3,)"),
        ([-3, 1, 1], [dense(1)], "hinge", "/data/label", "from -1 to 1"),
        ([-3, 1, 1], [dense(1)], "poisson", "/data/label", "not negative"),
        ([0.3, 0.1], [dense(2)], "mse", "/data/label", "rows of shape (2,)"),
        ([0, 1, 1], [dense(1, "softmax")], "binary_crossentropy", "/model", "always 1"),
    ],
)  # fmt: skip
def test_losses_are_compared_with_labels_and_outputs(looked_at, target, layers, loss, pointer, words):
    ((where, what),) = faults(looked_at(target, layers, loss))
    assert where == pointer
    assert words in what


@pytest.mark.parametrize(
    ("target", "layer", "loss", "words"),
    [
        (CLASSES, dense(3), "sparse_categorical_crossentropy", "give its layer softmax"),
        ([0, 1], dense(1, "relu"), "binary_crossentropy", "give its layer sigmoid"),
        (
            CLASSES,
            dense(3, "softmax"),
            {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}},
            "from_logits is true",
        ),
    ],
)
def test_an_activation_that_does_not_suit_the_loss_is_warned_of(looked_at, target, layer, loss, words):
    answer = looked_at(target, [layer], loss)
    assert answer["faults"] == []
    ((warning,),) = [answer["warnings"]]
    assert words in warning["detail"]


def test_every_fault_is_told_at_once(looked_at):
    optimizer = {"class_name": "Adam", "config": {"learning_rate": 0.1, "clipnorm": 1.0, "clipvalue": 1.0}}
    answer = looked_at(
        CLASSES,
        [dense(2, "softmax")],
        "sparse_categorical_crossentropy",
        compile__optimizer=optimizer,
        compile__metrics=["accuracy", {"class_name": "Precision", "config": {"thresholds": [2.0]}}],
        fit__class_weight={5: 1.0},
    )
    assert [pointer for pointer, _ in faults(answer)] == [
        "/compile/optimizer",
        "/compile/metrics/1",
        "/model",
        "/fit/class_weight/5",
    ]


def test_data_that_can_not_be_read_leave_the_rest_to_be_told(looked_at):
    answer = looked_at(
        [0.0, np.nan], [{"class_name": "Dense", "config": {"units": 1, "activation": "relu"}}], "mse",
        model__input_shape=[4], compile__optimizer={"class_name": "SGD", "config": {"momentum": 7}},
    )  # fmt: skip
    assert [pointer for pointer, _ in faults(answer)] == ["/compile/optimizer", "/data"]
    assert answer["rows"] is None
    assert answer["model"]["parameters"] == 5


def test_the_values_that_an_embedding_reads_are_compared_with_its_rows(looked_at):
    layers = [
        {"class_name": "Embedding", "config": {"input_dim": 2, "output_dim": 3}},
        {"class_name": "Flatten"},
        dense(1),
    ]
    ((pointer, detail),) = faults(looked_at([0.5, 0.1, 0.2], layers, "mse"))
    assert pointer == "/model"
    assert "has 2 rows, numbered from 0" in detail


def test_a_batch_that_memory_does_not_hold_is_told_with_the_one_that_it_would(looked_at):
    layers = [dense(64, "relu"), dense(1)]
    answer = looked_at([0.5] * 8, layers, "mse", memory_bytes=40 * KIB, data__pipeline={"batch_size": 512})
    ((pointer, detail),) = faults(answer)
    assert pointer == "/data/pipeline/batch_size"
    most = int(detail.rpartition(": ")[2].split()[0].replace(",", ""))
    fitting = looked_at([0.5] * 8, layers, "mse", memory_bytes=40 * KIB, data__pipeline={"batch_size": most})
    assert 0 < most < 512
    assert fitting["faults"] == []


HUGE = [dense(100_000, "relu"), dense(100_000, "relu"), dense(1)]  # 40 GB of weights


def test_a_model_beyond_its_memory_is_told_by_its_size(looked_at):
    ((pointer, detail),) = faults(looked_at([0.5, 0.1], HUGE, "mse", memory_bytes=1 << 30))
    assert pointer == "/model"
    assert "take 149.0 GiB, and 1.0 GiB are there" in detail


def test_training_refuses_it_without_taking_the_memory(run, images_body):
    images_body["model"]["layers"] = [{"class_name": "Flatten"}, *HUGE[:2], dense(2, "softmax")]
    with pytest.raises(OutOfMemoryError, match="are there") as caught:
        run(images_body, memory_bytes=1 << 30)
    assert caught.value.location == {"pointer": "/model"}


def test_what_looks_wrong_in_the_data_is_a_warning_at_its_place(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    rows = [
        f"{a},{label},{b},{label}"
        for a, b, label in zip(rng.normal(size=60), rng.normal(size=60), y, strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["a,k/1,b,y", *rows, *rows[:30]]))
    document = {
        "model": {"kind": "sequential", "layers": [dense(1, "sigmoid")]},
        "data": {
            "kind": "csv",
            "uri": "dataset://rows",
            "features": ["a", "k/1", "b"],
            "label": "y",
            "columns": {"k/1": {"kind": "number"}},
            "validation_split": 0.2,
        },
        "compile": {"optimizer": "adam", "loss": "binary_crossentropy"},
    }
    answer = validate(TrainSpec.model_validate(document), data_file=tmp_path / "rows.csv", seed=1)
    assert answer["faults"] == []
    assert [(warning["pointer"], warning["detail"]) for warning in answer["warnings"]] == [
        ("/data/columns/k~11", "column 'k/1': is one-to-one with the label 'y'"),
        ("/data/validation_split", "row 73: 18 of 18 validation rows have a training row's features"),
    ]
