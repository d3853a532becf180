import numpy as np
import pytest

from trainer.architecture import build, inputs_of, outputs_of
from trainer.architectures.sequential import Options
from trainer.errors import SpecUnbuildableError


def sequential(*layers, **fields):
    return Options(kind="sequential", layers=layers, **fields)


def dense(units):
    return {"class_name": "Dense", "config": {"units": units}}


def test_the_input_is_shaped_and_named_by_the_data():
    model = build(sequential(dense(8), dense(3)), {"features": (4,)})
    (taken,), (given,) = inputs_of(model), outputs_of(model)
    assert (taken.name, taken.shape, taken.dtype) == ("features", (None, 4), "float32")
    assert (given.shape, given.dtype) == ((None, 3), "float32")
    assert model.count_params() == 67


def test_an_embedding_takes_integers():
    embedding = {"class_name": "Embedding", "config": {"input_dim": 10, "output_dim": 2}}
    model = build(sequential(embedding, {"class_name": "Flatten"}, dense(1)), {"features": (5,)})
    assert inputs_of(model)[0].dtype == "int32"
    assert model(np.zeros((2, 5), np.int32)).shape == (2, 1)


def test_nested_layers_and_partial_configs_are_built():
    layers = (
        {"class_name": "Rescaling", "config": {"scale": 0.5}},
        {"class_name": "Bidirectional", "config": {"layer": {"class_name": "LSTM", "config": {"units": 4}}}},
        {"class_name": "Dense", "config": {"units": 1, "kernel_regularizer": {"class_name": "L2"}}},
    )
    assert build(sequential(*layers), {"features": (3, 2)}).output_shape == (None, 1)


def test_a_layer_that_does_not_fit_is_named():
    conv = {"class_name": "Conv2D", "config": {"filters": 2, "kernel_size": 3}}
    with pytest.raises(SpecUnbuildableError, match=r"layer 1 \(Conv2D\) can't be built") as caught:
        build(sequential(dense(4), conv, dense(1)), {"features": (4,)})
    assert caught.value.location == {"pointer": "/model/layers/1"}


def test_a_value_that_a_layer_refuses_is_located():
    with pytest.raises(SpecUnbuildableError) as caught:
        build(sequential(dense(4), {"class_name": "Dropout", "config": {"rate": 1.5}}), {"features": (4,)})
    assert caught.value.location == {"pointer": "/model/layers/1"}


def test_images_without_a_channel_are_explained():
    with pytest.raises(SpecUnbuildableError, match=r"shape \(8, 8\).*takes \(8, 8, 1\)") as caught:
        build(sequential(dense(1), input_shape=(8, 8, 1)), {"features": (8, 8)})
    assert "channel axis" in caught.value.remedy


def test_several_inputs_need_a_functional_model():
    with pytest.raises(SpecUnbuildableError, match="a Sequential model has one input"):
        build(sequential(dense(1)), {"a": (1,), "b": (1,)})
