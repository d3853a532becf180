"""Every optimizer and schedule that Keras has, by name and by configuration, and all else `compile` takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from tests.trainer.exported import exported
from trainer.catalog import catalog
from trainer.fit import Trained, fit
from trainer.spec import TrainSpec

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adadelta": {"learning_rate": 0.5, "rho": 0.9},
    "Adafactor": {"learning_rate": 0.05, "clip_threshold": 0.5},
    "Adagrad": {"learning_rate": 0.05, "initial_accumulator_value": 0.2},
    "Adam": {"learning_rate": 0.05, "amsgrad": True},
    "AdamW": {"learning_rate": 0.05, "weight_decay": 0.01},
    "Adamax": {"learning_rate": 0.05, "beta_1": 0.8},
    "Ftrl": {"learning_rate": 0.05, "l1_regularization_strength": 0.01},
    "Lamb": {"learning_rate": 0.05, "beta_2": 0.9},
    "Lion": {"learning_rate": 0.05, "beta_1": 0.8},
    "Muon": {"learning_rate": 0.05, "nesterov": False},
    "Nadam": {"learning_rate": 0.05, "beta_1": 0.8},
    "RMSprop": {"learning_rate": 0.05, "centered": True, "momentum": 0.5},
    "SGD": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "ScheduleFreeAdamW": {"learning_rate": 0.05, "warmup_steps": 2},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "CosineDecay": {"initial_learning_rate": 0.01, "decay_steps": 3, "warmup_target": 0.1, "warmup_steps": 2},
    "CosineDecayRestarts": {"initial_learning_rate": 0.1, "first_decay_steps": 3},
    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5},
    "InverseTimeDecay": {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5},
    "PiecewiseConstantDecay": {"boundaries": [3, 5], "values": [0.1, 0.05, 0.01]},
    "PolynomialDecay": {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 2.0},
}
# What any optimizer takes besides.
EXTRAS: dict[str, dict[str, Any]] = {
    "clipnorm": {"clipnorm": 0.01},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.01},
    "use_ema": {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "loss_scale_factor": {"loss_scale_factor": 8.0},
    "weight_decay": {"weight_decay": 0.1},
}
LEFT_OUT = {
    "Optimizer": "abstract",
    "LossScaleOptimizer": "resources.precision makes it where half precision needs it",
    "MultiOptimizer": "maps layers to optimizers by objects that a document can't hold",
    "LearningRateSchedule": "abstract",
}
STEPS = 6


@pytest.mark.parametrize(
    ("module", "base", "cases"),
    [
        ("keras.optimizers", "Optimizer", OPTIMIZERS),
        ("keras.optimizers.schedules", "LearningRateSchedule", SCHEDULES),
    ],
)
def test_all_that_keras_exports_is_tried_and_the_rest_has_a_reason(
    module: str, base: str, cases: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    known = exported(module, base)
    assert not cases.keys() & LEFT_OUT.keys()
    assert cases.keys() == known - LEFT_OUT.keys()
    with capsys.disabled():
        print(f"\n{len(cases)} of {len(known)} of {module} are tried")  # noqa: T201 - the figure is the point


def quick(cases: dict[str, Any], *chosen: str) -> list[Any]:
    """The cases, those not chosen for every run marked `full`."""
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.full) for name in cases]


def configured(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


def images_spec(optimizer: Any, **compiled: Any) -> dict[str, Any]:
    """A dense layer's answers to the 120 images, two epochs of three steps."""
    return {
        "model": {
            "kind": "sequential",
            "layers": [configured("Flatten"), configured("Dense", units=2, activation="softmax")],
        },
        "data": {
            "kind": "npz",
            "uri": "dataset://images",
            "features": "x",
            "label": "y",
            "pipeline": {"batch_size": 40},
        },
        "compile": {"optimizer": optimizer, "loss": "sparse_categorical_crossentropy", **compiled},
        "fit": {"epochs": 2},
        "seed": 11,
    }


@pytest.fixture
def train(run: Any, tmp_path: Path) -> Callable[..., Trained]:
    """Fit that, from the start."""

    def train(optimizer: Any, **compiled: Any) -> Trained:
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        trained: Trained = run(images_spec(optimizer, **compiled))
        assert trained.model.optimizer.iterations.numpy() == STEPS
        assert all(np.isfinite(weight).all() for weight in trained.model.get_weights())
        return trained

    return train


@pytest.mark.parametrize("name", quick(OPTIMIZERS, "Lamb"))
def test_an_optimizer_lowers_the_loss_by_its_names_and_by_its_configuration(
    name: str, train: Callable[..., Trained]
) -> None:
    import keras

    aliases = {alias for alias, value in catalog().aliases["optimizers"].items() if value == name}
    assert aliases <= {name.lower()}
    for given in (name, name.lower(), configured(name, **OPTIMIZERS[name])):
        trained = train(given)
        config = {} if isinstance(given, str) else OPTIMIZERS[name]
        wanted = getattr(keras.optimizers, name)(**config)
        assert type(trained.model.optimizer) is type(wanted)
        made = trained.model.optimizer.get_config()
        assert made == wanted.get_config() | {"name": made["name"]}
        first, last = trained.history["loss"]
        assert last < first


def resumed_and_whole(
    body: dict[str, Any], run: Any, killed: Any, images_file: Path, recorder: Any, tmp_path: Path
) -> tuple[Trained, Trained]:
    """A run that was killed after its fifth step and went on, and one that was not."""
    body["checkpoint"] = {"every_steps": 1}
    spec = TrainSpec.model_validate(body)
    whole = fit(spec, data_file=images_file, workdir=tmp_path / "whole", seed=11, observer=recorder())
    killed(body, polls=4)
    return run(body), whole


@pytest.mark.parametrize("name", quick(OPTIMIZERS))
def test_a_killed_run_goes_on_with_what_the_optimizer_carried(
    name: str, run: Any, killed: Any, images_file: Path, recorder: Any, tmp_path: Path
) -> None:
    body = images_spec(configured(name, **OPTIMIZERS[name]))
    trained, whole = resumed_and_whole(body, run, killed, images_file, recorder, tmp_path)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


@pytest.mark.parametrize("name", quick(EXTRAS))
def test_a_killed_run_goes_on_with_what_any_optimizer_takes_besides(
    name: str, run: Any, killed: Any, images_file: Path, recorder: Any, tmp_path: Path
) -> None:
    body = images_spec(configured("Adam", learning_rate=0.05, **EXTRAS[name]))
    trained, whole = resumed_and_whole(body, run, killed, images_file, recorder, tmp_path)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


@pytest.mark.parametrize("name", quick(SCHEDULES, "CosineDecay"))
def test_a_schedule_rules_the_rate_and_a_killed_run_goes_on_with_it(
    name: str, run: Any, killed: Any, images_file: Path, recorder: Any, tmp_path: Path
) -> None:
    import keras

    body = images_spec(configured("SGD", learning_rate=configured(name, **SCHEDULES[name])))
    trained, whole = resumed_and_whole(body, run, killed, images_file, recorder, tmp_path)
    schedule = getattr(keras.optimizers.schedules, name)(**SCHEDULES[name])
    assert float(trained.model.optimizer.learning_rate) == pytest.approx(float(schedule(STEPS)))
    assert same_weights(trained.model, whole.model)


def moved(trained: Trained, start: Trained) -> list[np.ndarray]:
    """How far each weight went from where `start`, which went nowhere, has left it."""
    pairs = zip(trained.model.get_weights(), start.model.get_weights(), strict=True)
    return [one - other for one, other in pairs]


def test_gradients_are_clipped_as_asked(train: Callable[..., Trained]) -> None:
    """At a rate of 1 plain descent moves by at most the bound, step by step; without one, by far more."""
    still = train(configured("SGD", learning_rate=0.0))

    def steps(**clipped: Any) -> list[np.ndarray]:
        return [each / STEPS for each in moved(train(configured("SGD", learning_rate=1.0, **clipped)), still)]

    assert max(abs(each).max() for each in steps()) > 0.02
    assert max(abs(each).max() for each in steps(clipvalue=0.001)) == pytest.approx(0.001, rel=0.5)
    norms = [np.linalg.norm(each) for each in steps(clipnorm=0.001)]
    assert max(norms) == pytest.approx(0.001, rel=0.5)
    whole = np.concatenate([each.ravel() for each in steps(global_clipnorm=0.001)])
    assert np.linalg.norm(whole) == pytest.approx(0.001, rel=0.5)


def test_the_average_of_the_weights_is_what_is_trained(train: Callable[..., Trained]) -> None:
    plain = train(configured("SGD", learning_rate=0.1))
    averaged = train(configured("SGD", learning_rate=0.1, use_ema=True, ema_momentum=0.5))
    # Keras puts the average in the weights' place when training ends.
    assert averaged.history == plain.history
    for average, weight, other in zip(
        averaged.model.optimizer._model_variables_moving_average,
        averaged.model.get_weights(),
        plain.model.get_weights(),
        strict=True,
    ):
        assert np.array_equal(average.numpy(), weight)
        assert 0 < abs(weight - other).max() < 0.1


@pytest.fixture
def undetermined() -> Iterator[None]:
    """As in a job whose spec names no seed, though earlier ones of this process did."""
    from tensorflow.python.framework import config

    config.disable_op_determinism()
    yield
    config.enable_op_determinism()


@pytest.mark.usefixtures("undetermined")
@pytest.mark.parametrize(
    "how",
    [
        {"run_eagerly": True, "steps_per_execution": 2},
        pytest.param({"jit_compile": True, "steps_per_execution": 3}, marks=pytest.mark.full),
        pytest.param({"jit_compile": True}, marks=pytest.mark.full),
        pytest.param({"steps_per_execution": 2}, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_how_a_step_is_run_changes_nothing_but_the_last_digits(
    how: dict[str, Any], run: Any, tmp_path: Path
) -> None:
    body = images_spec("adam")
    body["seed"] = None
    plain = run(body)
    shutil.rmtree(tmp_path / "work")
    body["compile"] |= how
    other = run(body)
    assert other.model.jit_compile is how.get("jit_compile", False)
    assert other.model.run_eagerly is how.get("run_eagerly", False)
    # XLA adds up in another order: 6e-8 measured.
    for one, another in zip(plain.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.allclose(one, another, atol=1e-6)
    assert other.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)


def test_a_seed_rules_xla_out_and_the_log_says_so(train: Callable[..., Trained]) -> None:
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`"):
        trained = train("adam", jit_compile=True)
    assert not trained.model.jit_compile
