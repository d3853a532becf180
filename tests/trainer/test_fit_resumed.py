"""A run that was stopped or killed goes on where it was, to the weights of one that was not."""

import errno
import os
import resource
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from trainer import errors
from trainer.fit import fit
from trainer.observer import Interruption
from trainer.resume import Checkpoints
from trainer.spec import TrainSpec

PATIENT = {"class_name": "EarlyStopping", "config": {"patience": 10, "restore_best_weights": True}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, images_file, images_document, recorder):
    spec = TrainSpec.model_validate(images_document | {"fit": {"epochs": 4, "callbacks": [PATIENT]}})
    workdir = tmp_path_factory.mktemp("undisturbed")
    return fit(spec, data_file=images_file, workdir=workdir, seed=11, observer=recorder())


# 8 polls an epoch, after 5 of the 6 batches, the 2 of validation and the end: within the first epoch, in its
# validation, at its end, within the second, at the very end.
@pytest.mark.parametrize(
    "polls", [pytest.param(2, marks=pytest.mark.full), 6, 8, pytest.param(10, marks=pytest.mark.full), 32]
)
def test_a_stopped_run_goes_on_to_the_weights_of_an_undisturbed_one(
    run, images_body, recorder, undisturbed, polls
):
    images_body["fit"]["callbacks"] = [PATIENT]
    stopped, resumed = recorder(Interruption.STOP, after=polls), recorder()

    with pytest.raises(errors.Interrupted):
        run(images_body, stopped)
    trained = run(images_body, resumed)

    assert trained.resumed_from == len(stopped.epochs)
    # What the first attempt told is told again, in case its last word was lost.
    assert [point.epoch for point in resumed.epochs] == [1, 2, 3, 4]
    assert resumed.epochs[: len(stopped.epochs)] == stopped.epochs
    assert trained.history == undisturbed.history
    assert same_weights(trained.model, undisturbed.model)


def test_a_killed_run_goes_on_from_a_step_and_says_so(
    run, images_body, recorder, undisturbed, killed, tmp_path
):
    images_body["fit"]["callbacks"] = [PATIENT]
    images_body["checkpoint"] = {"every_steps": 2}
    # 8 polls an epoch: after the third step of the third.
    killed(images_body, polls=18)
    assert Checkpoints(tmp_path / "work" / "checkpoints").furthest() == "epoch-000002-step-000000002"

    observer = recorder()
    trained = run(images_body, observer)
    assert observer.notes == ["goes on from epoch 3, step 2 of 6"]
    assert trained.history == undisturbed.history
    assert same_weights(trained.model, undisturbed.model)


def test_what_early_stopping_knows_outlives_a_kill(run, images_body, killed, images_file, tmp_path, recorder):
    images_body["compile"]["optimizer"]["config"]["learning_rate"] = 0.5  # so that the last is not the best
    patient = {"class_name": "EarlyStopping", "config": {"patience": 1, "restore_best_weights": True}}
    images_body |= {"fit": {"epochs": 9, "callbacks": [patient]}, "checkpoint": {"every_steps": 2}}
    spec = TrainSpec.model_validate(images_body)
    whole = fit(spec, data_file=images_file, workdir=tmp_path / "whole", seed=11, observer=recorder())
    assert whole.best_epoch < whole.epochs_run < 9

    killed(images_body, polls=8 * (whole.epochs_run - 1) + 3)
    trained = run(images_body)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    run, images_body, recorder, undisturbed, killed
):
    images_body["fit"]["callbacks"] = [PATIENT]
    killed(images_body, polls=3)
    observer = recorder()
    assert same_weights(run(images_body, observer).model, undisturbed.model)
    assert observer.notes == []


@pytest.mark.parametrize(
    "checkpoint", [{"every_steps": 1}, pytest.param({"every_s": 1e-9}, marks=pytest.mark.full)]
)
def test_checkpoints_at_every_step_change_nothing(
    run, images_body, recorder, undisturbed, checkpoint, tmp_path
):
    names = set()

    class Lister(recorder):
        def interruption(self):
            names.add(Checkpoints(tmp_path / "work" / "checkpoints").furthest())
            return super().interruption()

    images_body["fit"]["callbacks"] = [PATIENT]
    trained = run(images_body | {"checkpoint": checkpoint}, Lister())
    assert {f"epoch-000001-step-{step:09d}" for step in range(6)} <= names
    assert trained.history == undisturbed.history
    assert same_weights(trained.model, undisturbed.model)


def optimizer(name, **config):
    return {"class_name": name, "config": config}


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizer("Nadam", learning_rate=0.02, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=5),
        pytest.param(optimizer("Adam", gradient_accumulation_steps=4), marks=pytest.mark.full),
    ],
    ids=lambda optimizer: optimizer["class_name"],
)
def test_all_that_an_optimizer_carries_from_step_to_step_is_kept(
    run, images_body, optimizer, killed, tmp_path, images_file, recorder
):
    images_body["compile"]["optimizer"] = optimizer
    images_body["checkpoint"] = {"every_steps": 3}
    images_body["fit"] = {"epochs": 2}
    killed(images_body, polls=12)
    trained = run(images_body)
    spec = TrainSpec.model_validate(images_body)
    whole = fit(spec, data_file=images_file, workdir=tmp_path / "whole", seed=11, observer=recorder())
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


@pytest.mark.full
def test_the_states_of_a_stateful_layer_are_kept(run, images_body, killed, tmp_path, recorder):
    import keras

    rng = np.random.default_rng(5)
    data = tmp_path / "waves.npz"
    np.savez(data, x=rng.normal(size=(80, 4, 3)), y=rng.normal(size=80))
    inputs = keras.Input(batch_shape=(8, 4, 3))
    both = keras.layers.Bidirectional(keras.layers.GRU(3, stateful=True))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(both))
    body = {
        "model": {"kind": "keras", "config": model.to_json()},
        "data": images_body["data"]
        | {"split": None, "validation_split": 0.2, "pipeline": {"batch_size": 8, "shuffle": False}},
        "compile": {"loss": "mse", "optimizer": optimizer("SGD", learning_rate=0.1)},
        "fit": {"epochs": 2},
        "checkpoint": {"every_steps": 3},
        "seed": 11,
    }
    killed(body, polls=14, data_file=data)
    trained = run(body, data_file=data)
    spec = TrainSpec.model_validate(body)
    whole = fit(spec, data_file=data, workdir=tmp_path / "whole", seed=11, observer=recorder())
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


def test_a_disk_that_fills_up_is_told_as_it_is_and_training_goes_on_later(
    run, images_body, recorder, undisturbed
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filler(recorder):
        def interruption(self):
            if self.polls == 10:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            return super().interruption()

    images_body["fit"]["callbacks"] = [PATIENT]
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            run(images_body, Filler())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    observer = recorder()
    trained = run(images_body, observer)
    assert observer.notes == ["goes on from epoch 2, step 0 of 6"]
    assert same_weights(trained.model, undisturbed.model)


def written_elsewhere(tmp_path):
    """Make the newest checkpoint say that another CPU computed it."""
    checkpoints = Checkpoints(tmp_path / "work" / "checkpoints")
    newest = checkpoints.newest()
    environment = newest.values["environment"] | {"cpu": "Z80"}
    checkpoints.save(replace(newest, values=newest.values | {"environment": environment}))


def test_a_run_that_goes_on_elsewhere_says_that_its_bits_may_differ(run, images_body, recorder, tmp_path):
    with pytest.raises(errors.Interrupted):
        run(images_body, recorder(Interruption.STOP, after=10))
    written_elsewhere(tmp_path)
    observer = recorder()
    run(images_body, observer)
    warned, resumed = observer.notes
    assert "may differ in their last bits" in warned
    assert "cpu was 'Z80'" in warned
    assert resumed == "goes on from epoch 2, step 2 of 6"


def test_without_a_seed_in_the_spec_no_environment_is_kept(run, images_body, tmp_path):
    images_body["fit"]["epochs"] = 1
    run(images_body | {"seed": None})
    assert Checkpoints(tmp_path / "work" / "checkpoints").newest().values["environment"] is None


def test_another_seed_is_not_resumed_with(run, images_body, recorder, images_file, tmp_path):
    with pytest.raises(errors.Interrupted):
        run(images_body, recorder(Interruption.STOP, after=2))
    spec = TrainSpec.model_validate(images_body)
    with pytest.raises(errors.ResumeError, match=r"pipeline changed .* seed was 11, is 12"):
        fit(spec, data_file=images_file, workdir=tmp_path / "work", seed=12, observer=recorder())


def test_a_checkpoint_passed_over_is_told_with_where_training_goes_on(
    run, images_body, recorder, tmp_path, undisturbed
):
    images_body["fit"]["callbacks"] = [PATIENT]
    with pytest.raises(errors.Interrupted):
        run(images_body, recorder(Interruption.STOP, after=18))
    newest = tmp_path / "work" / "checkpoints" / "epoch-000002-step-000000002"
    os.truncate(newest / "arrays.npz", 100)
    observer = recorder()
    trained = run(images_body, observer)
    assert observer.notes == [
        "checkpoint epoch-000002-step-000000002 is damaged and was passed over",
        "goes on from epoch 3, step 0 of 6",
    ]
    assert same_weights(trained.model, undisturbed.model)


def test_a_trained_run_is_not_trained_again(run, images_body, recorder):
    first = run(images_body)
    observer = recorder()
    second = run(images_body, observer)
    assert [point.epoch for point in observer.epochs] == list(range(1, first.epochs_run + 1))
    assert second.metrics == first.metrics
    assert same_weights(second.model, first.model)


def test_early_stopping_ends_the_run_and_a_resumed_one_stays_ended(run, images_body, recorder):
    images_body["fit"] = {
        "epochs": 50,
        "callbacks": [{"class_name": "EarlyStopping", "config": {"min_delta": 10.0}}],
    }
    with pytest.raises(errors.Interrupted):
        # The last poll of the second epoch, with which patience ends.
        run(images_body, recorder(Interruption.STOP, after=16))
    assert run(images_body).epochs_run == 2


def test_changed_data_are_not_resumed_on(run, images_body, recorder, tmp_path):
    with pytest.raises(errors.Interrupted):
        run(images_body, recorder(Interruption.STOP, after=8))
    y = np.arange(120) % 2
    np.savez(tmp_path / "other.npz", x=np.ones((120, 6, 6, 1)), y=y)
    with pytest.raises(errors.ResumeError, match="the data changed"):
        run(images_body, data_file=tmp_path / "other.npz")
