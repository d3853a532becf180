"""Every loss and metric that Keras has, by configuration and by each of its names.

What a run says of the validation rows after its last epoch is compared with what Keras's own object says of
the trained model's answers to them.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.exported import exported
from trainer.catalog import catalog
from trainer.spec import TrainSpec

ROWS, TRAINING, CLASSES = 40, 24, 3
# Targets by the column that holds them, and the layers that give answers of their kind.
HEADS: dict[str, list[dict[str, Any]]] = {
    "number": [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}],
    "pair": [{"class_name": "Dense", "config": {"units": 2, "activation": "sigmoid"}}],
    "binary": [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}],
    "sign": [{"class_name": "Dense", "config": {"units": 1, "activation": "tanh"}}],
    "class": [{"class_name": "Dense", "config": {"units": CLASSES, "activation": "softmax"}}],
    "one_hot": [{"class_name": "Dense", "config": {"units": CLASSES, "activation": "softmax"}}],
    # Classes told by how near the answers lie to each other: `Circle`.
    "near": [
        {"class_name": "Dense", "config": {"units": 4}},
        {"class_name": "UnitNormalization", "config": {}},
    ],
    # Two characters somewhere in five time steps, of three and a blank: `CTC`.
    "text": [
        {"class_name": "Dense", "config": {"units": 20}},
        {"class_name": "Reshape", "config": {"target_shape": [5, 4]}},
    ],
}
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "BinaryCrossentropy": ("binary", {"label_smoothing": 0.1}),
    "BinaryFocalCrossentropy": ("binary", {"gamma": 1.5, "apply_class_balancing": True}),
    "CTC": ("text", {}),
    "CategoricalCrossentropy": ("one_hot", {"label_smoothing": 0.1}),
    "CategoricalFocalCrossentropy": ("one_hot", {"alpha": 0.5}),
    "CategoricalGeneralizedCrossEntropy": ("class", {"q": 0.6}),
    "CategoricalHinge": ("one_hot", {}),
    "Circle": ("near", {"gamma": 8, "margin": 0.3}),
    "CosineSimilarity": ("pair", {"axis": -1}),
    "Dice": ("pair", {"axis": 0}),
    "Hinge": ("sign", {}),
    "Huber": ("number", {"delta": 0.2}),
    "KLDivergence": ("one_hot", {}),
    "LogCosh": ("number", {}),
    "MeanAbsoluteError": ("number", {}),
    "MeanAbsolutePercentageError": ("number", {}),
    "MeanSquaredError": ("pair", {"reduction": "sum"}),
    "MeanSquaredLogarithmicError": ("number", {}),
    "Poisson": ("number", {}),
    "SparseCategoricalCrossentropy": ("class", {"ignore_class": 2}),
    "SquaredHinge": ("sign", {}),
    "Tversky": ("pair", {"alpha": 0.7, "beta": 0.3}),
}
METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    "AUC": ("binary", {"curve": "PR", "num_thresholds": 50}),
    "Accuracy": ("sign", {}),
    "BinaryAccuracy": ("binary", {"threshold": 0.45}),
    "BinaryCrossentropy": ("binary", {"label_smoothing": 0.1}),
    "BinaryIoU": ("binary", {"target_class_ids": [1], "threshold": 0.45}),
    "CategoricalAccuracy": ("one_hot", {}),
    "CategoricalCrossentropy": ("one_hot", {"label_smoothing": 0.1}),
    "CategoricalHinge": ("one_hot", {}),
    "ConcordanceCorrelation": ("pair", {"axis": 0}),
    "CosineSimilarity": ("pair", {}),
    "F1Score": ("one_hot", {"average": "macro"}),
    "FBetaScore": ("one_hot", {"average": "micro", "beta": 2.0}),
    "FalseNegatives": ("binary", {"thresholds": 0.45}),
    "FalsePositives": ("binary", {"thresholds": 0.45}),
    "Hinge": ("sign", {}),
    "IoU": ("class", {"num_classes": CLASSES, "target_class_ids": [0, 1], "sparse_y_pred": False}),
    "KLDivergence": ("one_hot", {}),
    "LogCoshError": ("number", {}),
    "MeanAbsoluteError": ("number", {}),
    "MeanAbsolutePercentageError": ("number", {}),
    "MeanIoU": ("class", {"num_classes": CLASSES, "sparse_y_pred": False}),
    "MeanSquaredError": ("number", {}),
    "MeanSquaredLogarithmicError": ("number", {}),
    "OneHotIoU": ("one_hot", {"num_classes": CLASSES, "target_class_ids": [0]}),
    "OneHotMeanIoU": ("one_hot", {"num_classes": CLASSES}),
    "PearsonCorrelation": ("pair", {"axis": 0}),
    "Poisson": ("number", {}),
    "Precision": ("binary", {"thresholds": 0.45}),
    "PrecisionAtRecall": ("binary", {"recall": 0.5}),
    "R2Score": ("pair", {"class_aggregation": "variance_weighted_average"}),
    "Recall": ("binary", {"thresholds": 0.45}),
    "RecallAtPrecision": ("binary", {"precision": 0.5}),
    "RootMeanSquaredError": ("number", {}),
    "SensitivityAtSpecificity": ("binary", {"specificity": 0.5}),
    "SparseCategoricalAccuracy": ("class", {}),
    "SparseCategoricalCrossentropy": ("class", {}),
    "SparseTopKCategoricalAccuracy": ("class", {"k": 2}),
    "SpecificityAtSensitivity": ("binary", {"sensitivity": 0.5}),
    "SquaredHinge": ("sign", {}),
    "TopKCategoricalAccuracy": ("one_hot", {"k": 2}),
    "TrueNegatives": ("binary", {"thresholds": 0.45}),
    "TruePositives": ("binary", {"thresholds": 0.45}),
}
LEFT_OUT = {
    "losses": {"Loss": "abstract"},
    "metrics": {
        "Metric": "abstract",
        "MeanMetricWrapper": "carries code",
        "Mean": "takes values alone, and compile gives a metric the targets as well",
        "Sum": "takes values alone, too",
    },
}


@pytest.mark.parametrize(
    ("section", "module", "base", "cases"),
    [
        ("losses", "keras.losses", "Loss", LOSSES),
        ("metrics", "keras.metrics", "Metric", METRICS),
    ],
)
def test_all_that_keras_exports_is_tried_and_the_rest_has_a_reason(
    section: str, module: str, base: str, cases: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    known = exported(module, base)
    assert not cases.keys() & LEFT_OUT[section].keys()
    assert cases.keys() | LEFT_OUT[section].keys() == known
    with capsys.disabled():
        print(f"\n{len(cases)} of {len(known)} {section} are tried")  # noqa: T201 - the figure is the point


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, 6)).astype(np.float32)
    classes = np.arange(ROWS) % CLASSES
    path = tmp_path_factory.mktemp("targets") / "targets.npz"
    np.savez(
        path,
        x=x,
        number=rng.uniform(0.1, 0.9, (ROWS, 1)).astype(np.float32),
        pair=rng.uniform(0.1, 0.9, (ROWS, 2)).astype(np.float32),
        binary=(x[:, :1] > 0).astype(np.int64),
        sign=np.where(x[:, :1] > 0, 1, -1),
        **{"class": classes},
        one_hot=np.eye(CLASSES, dtype=np.float32)[classes],
        near=classes,
        text=rng.integers(1, 4, (ROWS, 2)),
    )
    return path


def body(kinds: dict[str, str], compiled: dict[str, Any]) -> dict[str, Any]:
    """A spec with an output for each key of `kinds`, whose targets are of the kind named there."""
    import keras

    x = keras.Input((6,), name="x")
    answers = []
    for output, kind in kinds.items():
        answer = x
        layers = [getattr(keras.layers, each["class_name"])(**each["config"]) for each in HEADS[kind]]
        layers[-1].name = output
        for layer in layers:
            answer = layer(answer)
        answers.append(answer)
    return {
        "model": {"kind": "keras", "config": json.loads(keras.Model(x, answers).to_json())},
        "data": {
            "kind": "npz",
            "uri": "dataset://targets",
            "features": "x",
            "label": kinds,
            "split": {"by": "random", "fractions": [TRAINING / ROWS, 1 - TRAINING / ROWS], "seed": 2},
            # The validation rows are a batch: some losses are of a batch as a whole.
            "pipeline": {"batch_size": 16},
        },
        "compile": {"optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.01}}, **compiled},
        "fit": {"epochs": 1},
        "seed": 11,
    }


def answers_of(trained: Any, output: str) -> tuple[np.ndarray, np.ndarray]:
    """The validation targets of an output as Keras got them, and the trained model's answers to them."""
    answers = trained.model(trained.rows.held_out.features["x"])
    names = [info.name for info in trained.outputs]
    answer = answers[names.index(output)] if len(names) > 1 else answers
    target = trained.rows.held_out.targets[output]
    return target.astype("int64" if target.dtype.kind in "iu" else "float32"), np.asarray(answer)


def expected(module: Any, value: Any) -> Any:
    """What Keras makes of a configuration or a name."""
    if isinstance(value, dict):
        return getattr(module, value["class_name"])(**value["config"])
    value = CHOSEN.get(value, value)
    return getattr(module, value)() if inspect.isclass(getattr(module, value, None)) else module.get(value)


def by_config(cases: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, tuple[str, Any]]:
    return {
        name: (kind, {"class_name": name, "config": {"name": name, **config}})
        for name, (kind, config) in cases.items()
    }


def by_name(section: str, cases: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, tuple[str, Any]]:
    """Every string that names something in the section, with the kind that its class is tried with."""
    kinds = {folded(name): kind for name, (kind, _) in cases.items()} | OTHER_NAMES
    entries = catalog().sections[section]
    needy = {name for name, entry in entries.items() if any(a.required for a in entry.arguments.values())}
    aliases = catalog().aliases[section]
    return {
        name: (kinds[folded(aliases.get(name) or name)], name)
        for name in sorted(catalog().names(section))
        if aliases.get(name, name) not in needy
    }


def folded(name: str) -> str:
    return name.lower().replace("_", "")


OTHER_NAMES = {"accuracy": "class", "crossentropy": "class"}
# Keras chooses by the shape of the answers.
CHOSEN = dict.fromkeys(("accuracy", "Accuracy", "acc"), "SparseCategoricalAccuracy") | dict.fromkeys(
    ("crossentropy", "ce"), "SparseCategoricalCrossentropy"
)


def tried(cases: dict[str, tuple[str, Any]], suffix: str, *quick: str) -> list[Any]:
    """Some together, as outputs of one model, in every run; all together and one by one, marked `full`."""
    chosen = {name: cases[name] for name in quick}
    return [
        pytest.param(chosen, id=f"some {suffix}"),
        pytest.param(cases, id=f"all {suffix}", marks=pytest.mark.full),
        *(
            pytest.param({name: case}, id=f"{name} {suffix}", marks=pytest.mark.full)
            for name, case in cases.items()
        ),
    ]


# Kept for every run: those whose targets or answers are of an unusual form, and some of each kind.
LOSS_CLASSES = (
    "CTC",
    "CategoricalGeneralizedCrossEntropy",
    "Circle",
    "Dice",
    "SparseCategoricalCrossentropy",
)
METRIC_CLASSES = ("AUC", "F1Score", "MeanIoU", "PearsonCorrelation", "Precision", "R2Score", "Recall")
METRIC_NAMES = ("accuracy", "AUC", "f1_score", "mae", "poisson")
LOSS_NAMES = ("mse", "CTC", "hinge", "sparse_categorical_crossentropy", "CategoricalGeneralizedCrossEntropy")


@pytest.mark.parametrize(
    "cases",
    tried(by_config(LOSSES), "by config", *LOSS_CLASSES)
    + tried(by_name("losses", LOSSES), "by name", *LOSS_NAMES),
)
def test_a_loss_is_what_keras_computes_of_the_answers(
    cases: dict[str, tuple[str, Any]], run: Any, data: Path
) -> None:
    import keras

    outputs = {f"out_{number}": case for number, case in enumerate(cases.values())}
    kinds = {output: kind for output, (kind, _) in outputs.items()}
    losses = {output: loss for output, (_, loss) in outputs.items()}
    single = len(outputs) == 1
    trained = run(body(kinds, {"loss": losses["out_0"] if single else losses}), data_file=data)
    for output, loss in losses.items():
        reported = trained.history["val_loss" if single else f"val_{output}_loss"][-1]
        computed = np.mean(expected(keras.losses, loss)(*answers_of(trained, output)))
        assert reported == pytest.approx(float(computed), rel=1e-4), loss
    judged = {output for output, kind in kinds.items() if kind not in {"near", "text"}}
    assert trained.judgement["outputs"].keys() == judged


@pytest.mark.parametrize(
    "cases",
    tried(by_config(METRICS), "by config", *METRIC_CLASSES)
    + tried(by_name("metrics", METRICS), "by name", *METRIC_NAMES),
)
def test_a_metric_is_what_keras_computes_of_the_answers(
    cases: dict[str, tuple[str, Any]], run: Any, data: Path
) -> None:
    import keras

    kinds = {kind: kind for kind, _ in cases.values()}
    metrics: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for kind, metric in cases.values():
        metrics[kind].append(metric)
    single = len(kinds) == 1
    losses = {kind: "crossentropy" if kind == "class" else "mse" for kind in kinds}
    compiled: dict[str, Any] = {"loss": losses, "metrics": metrics}
    if single:
        compiled = {name: next(iter(value.values())) for name, value in compiled.items()}
    trained = run(body(kinds, compiled), data_file=data)
    for kind, metric in cases.values():
        made = expected(keras.metrics, metric)
        target, answer = answers_of(trained, kind)
        if isinstance(made, keras.metrics.Metric):
            made.update_state(target, answer)
            computed = made.result()
        else:
            computed = np.mean(made(target, answer))
        called = metric if isinstance(metric, str) else made.name
        reported = f"val_{called}" if single else f"val_{kind}_{called}"
        # A metric of each class is as many curves.
        several = {f"{reported}_{place}": value for place, value in enumerate(np.ravel(computed))}
        for name, value in several.items() if np.ndim(computed) else [(reported, computed)]:
            assert trained.history[name][-1] == pytest.approx(float(value), rel=1e-4, abs=1e-6), metric


def test_a_metric_that_needs_an_argument_is_refused_by_its_name_alone() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match=r'{"class_name": "MeanIoU", "config": {"num_cla'):
        TrainSpec.model_validate(body({"out": "class"}, {"loss": "mse", "metrics": ["mean_io_u"]}))


@pytest.mark.parametrize("weights", [{"a": 0.5, "b": 2.0}, [0.5, 2.0]], ids=["by name", "in order"])
def test_the_loss_is_the_outputs_losses_by_their_weights(weights: Any, run: Any, data: Path) -> None:
    compiled = {"loss": {"a": "mse", "b": "hinge"}, "loss_weights": weights}
    history = run(body({"a": "pair", "b": "sign"}, compiled), data_file=data).history
    total = 0.5 * history["val_a_loss"][-1] + 2.0 * history["val_b_loss"][-1]
    assert history["val_loss"][-1] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("weights", [0.5, [0.5]], ids=str)
def test_a_single_loss_has_a_weight(weights: Any, run: Any, data: Path) -> None:
    trained = run(
        body({"a": "pair"}, {"loss": "mse", "loss_weights": weights, "metrics": ["mse"]}), data_file=data
    )
    assert trained.history["val_loss"][-1] == pytest.approx(0.5 * trained.history["val_mse"][-1], rel=1e-5)
