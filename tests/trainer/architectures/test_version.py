"""A model that starts from a published version: its weights, what is frozen, another head."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.architecture import Base, build, recorded, restored
from trainer.architectures.version import Options
from trainer.errors import SpecUnbuildableError
from trainer.inspecting import inspect

ROWS = {"features": (6, 6, 1)}
CONV = {"class_name": "Conv2D", "config": {"filters": 1, "kernel_size": 3}}


def version(**options) -> Options:
    return Options.model_validate({"kind": "version", "name": "images", "version": 1, **options})


@pytest.fixture(scope="module")
def published(tmp_path_factory, images_document, images_file, recorder):
    """A trained model, and what is kept of it."""
    from trainer.fit import fit
    from trainer.spec import TrainSpec

    folder = tmp_path_factory.mktemp("published")
    spec = TrainSpec.model_validate({**images_document, "fit": {"epochs": 2}})
    trained = fit(spec, data_file=images_file, workdir=folder / "work", seed=11, observer=recorder())
    trained.model.save_weights(folder / "model.weights.h5")
    section = json.loads(json.dumps(recorded(spec.model, trained.model, None)))
    return trained.model, Base.of(section, folder / "model.weights.h5")


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_begins_as_the_version_ended(published):
    model, base = published
    assert same(build(version(), ROWS, base).get_weights(), model.get_weights())


def test_layers_stay_as_trainable_as_they_were_unless_freeze_says_so(published):
    model, base = published
    assert len(build(version(), ROWS, base).trainable_variables) == len(model.trainable_variables)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (0, []),
        (2, ["conv2d", "batch_normalization"]),
        ("conv*", ["conv2d"]),
        (["conv2d", "batch*"], ["conv2d", "batch_normalization"]),
    ],
)
def test_layers_are_frozen_by_number_or_by_name(published, freeze, frozen):
    model = build(version(freeze=freeze), ROWS, published[1])
    assert [layer.name for layer in model.layers if layer.weights and not layer.trainable] == frozen


def test_layers_of_nested_models_are_named_by_their_path(tmp_path):
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first")], name="encoder")
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="last")])
    model.save_weights(tmp_path / "model.weights.h5")
    base = Base.of(recorded(version(), model, None), tmp_path / "model.weights.h5")
    built = build(version(freeze="encoder/fir*"), {"x": (4,)}, base)
    assert [variable.path for variable in built.trainable_variables] == ["last/kernel", "last/bias"]


def test_another_head_takes_the_place_of_the_last_layer(published):
    model, base = published
    head = [{"class_name": "Dense", "config": {"units": 4, "activation": "softmax"}}]
    built = build(version(head=head, freeze="*"), ROWS, base)
    assert built.output_shape == (None, 4)
    assert [variable.path for variable in built.trainable_variables] == [
        "head_dense/kernel",
        "head_dense/bias",
    ]
    assert same(built.get_weights()[:-2], model.get_weights()[:-2])


def test_a_head_can_follow_any_layer(published):
    head = [{"class_name": "Flatten"}, {"class_name": "Dense", "config": {"units": 1}}]
    built = build(version(head=head, cut_after="conv2d"), ROWS, published[1])
    assert [layer.name for layer in built.layers[1:]] == ["conv2d", "head_flatten", "head_dense"]


@pytest.mark.parametrize(
    ("options", "pointer", "words"),
    [
        ({"freeze": "dens"}, "/model/freeze", "there are conv2d, batch_normalization"),
        ({"freeze": ["conv2d", "x*"]}, "/model/freeze/1", "no layer is called 'x*'"),
        ({"freeze": 7}, "/model/freeze", "the model has 6 layers"),
        ({"freeze": "*"}, "/model/freeze", "nothing to train"),
        ({"head": [CONV]}, "/model/head/0", "Conv2D"),
        ({"head": [{"class_name": "Flatten"}], "cut_after": "x"}, "/model/cut_after", "layer is called 'x'"),
    ],
)
def test_what_can_not_be_frozen_or_replaced_is_told_where(published, options, pointer, words):
    with pytest.raises(SpecUnbuildableError) as caught:
        build(version(**options), ROWS, published[1])
    assert caught.value.location == {"pointer": pointer}
    assert words in caught.value.detail


@pytest.mark.parametrize("options", [{"freeze": -1}, {"freeze": True}, {"cut_after": "conv2d"}, {"head": []}])
def test_sections_that_say_nothing_sound_are_refused(options):
    with pytest.raises(ValidationError):
        version(**options)


def test_weights_of_another_model_are_refused(published):
    _, base = published
    head = [{"class_name": "Dense", "config": {"units": 9}}]
    section = recorded(version(), build(version(head=head), ROWS, base), None)
    with pytest.raises(SpecUnbuildableError, match="weights can't be put into the model"):
        restored(Base.of(section, base.weights), ROWS)


def test_a_version_is_inspected_without_its_weights(published, tmp_path):
    _, base = published
    gone = Base(base.model, tmp_path / "gone.weights.h5")
    head = [{"class_name": "Dense", "config": {"units": 9}}]
    told = inspect(version(head=head, freeze=2), None, base=gone)
    assert told["parameters"] == published[0].count_params() - 5 * 2 + 5 * 9
    assert [layer["trainable"] for layer in told["layers"] if layer["name"] == "conv2d"] == [False]


def test_frozen_layers_keep_their_weights_while_the_head_learns(published, images_body, run):
    _, base = published
    head = [{"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}}]
    images_body["model"] = {"kind": "version", "name": "images", "freeze": "*", "head": head}
    trained = run(images_body, base=base)
    assert same(trained.model.get_weights()[:-2], published[0].get_weights()[:-2])
    assert trained.history["loss"][-1] < trained.history["loss"][0]


def test_a_fine_tuned_model_is_recorded_without_its_base(published, images_body, run):
    _, base = published
    head = [{"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}}]
    images_body["model"] = {"kind": "version", "name": "images", "freeze": 1, "head": head}
    images_body["fit"]["epochs"] = 1
    trained = run(images_body, base=base)
    section = json.loads(json.dumps(recorded(version(), trained.model, base)))
    again = restored(Base.of(section, None), ROWS)
    assert [layer.name for layer in again.layers] == [layer.name for layer in trained.model.layers]
    assert not again.get_layer("conv2d").trainable


def test_a_killed_fine_tuning_ends_as_an_undisturbed_one(published, images_body, run, killed, tmp_path):
    _, base = published
    head = [{"class_name": "Dense", "config": {"units": 2, "activation": "softmax"}}]
    images_body["model"] = {"kind": "version", "name": "images", "freeze": 2, "head": head}
    undisturbed = run(images_body, base=base)
    shutil.rmtree(tmp_path / "work")
    killed(images_body, 9, base=base)
    resumed = run(images_body, base=base)
    assert resumed.resumed_from
    assert same(resumed.model.get_weights(), undisturbed.model.get_weights())
