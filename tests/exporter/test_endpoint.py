from __future__ import annotations

import numpy as np
import pytest

from exporter.endpoint import Endpoint
from exporter.errors import ExportFailedError


def rows(*shape, dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture(scope="module")
def layers():
    from keras import layers

    return layers


def named(model, features):
    endpoint = Endpoint.of(model, features)
    return [each.name for each in endpoint.inputs], list(endpoint.outputs)


def test_given_names_are_kept_in_the_models_order(two_by_two):
    assert named(two_by_two.model, two_by_two.held_out.features) == (["size", "age"], ["species", "weight"])


def test_a_numbered_lone_input_is_called_like_its_data_and_numbered_outputs_by_their_place(classifier):
    assert named(classifier.model, {"x": rows(2, 8)}) == (["x"], ["output_0"])


def test_a_dict_of_outputs_names_them(layers):
    import keras

    x = keras.Input((2,), name="x")
    model = keras.Model(x, {"b": layers.Dense(1)(x), "a": layers.Dense(2)(x)})
    endpoint = Endpoint.of(model, {"x": rows(3, 2)})
    assert endpoint.outputs == ("a", "b")
    assert {name: answer.shape for name, answer in endpoint.predict({"x": rows(3, 2)}, 2).items()} == {
        "a": (3, 2),
        "b": (3, 1),
    }


def test_a_subclassed_model_is_called_as_its_data_is_named(layers):
    import keras

    class Sum(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right = layers.Dense(1), layers.Dense(1)

        def call(self, inputs):
            return {"sum": self.left(inputs["b"]) + self.right(inputs["a"])}

    features = {"b": rows(3, 2), "a": rows(3, 4)}
    model = Sum()
    expected = model.predict(features, verbose=0)["sum"]
    endpoint = Endpoint.of(model, features)
    assert [(each.name, each.shape) for each in endpoint.inputs] == [("a", (None, 4)), ("b", (None, 2))]
    assert np.array_equal(endpoint.predict(endpoint.bind(features), 32)["sum"], expected)


def test_strings_are_inputs_too(layers):
    import keras

    x = keras.Input((1,), dtype="string", name="colour")
    model = keras.Model(x, layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")(x))
    endpoint = Endpoint.of(model, {"colour": np.array(["blue", "green"], dtype=object)})
    bound = endpoint.bind({"colour": np.array(["blue", "green"], dtype=object)})
    assert endpoint.inputs[0].dtype == "string"
    assert endpoint.predict(bound, 2)["output_0"].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_rows_are_cast_and_reshaped_to_what_the_model_takes(layers):
    import keras

    model = keras.Sequential([keras.Input((1,), name="x"), layers.Dense(1)])
    bound = Endpoint.of(model, {"x": rows(3)}).bind({"anything": rows(3, dtype=np.int64)})
    assert (list(bound), bound["x"].shape, bound["x"].dtype) == (["x"], (3, 1), np.float32)


def test_a_missing_input_is_named(two_by_two):
    with pytest.raises(ExportFailedError, match="lack the model's input age; they have size, old"):
        Endpoint.of(two_by_two.model, {"size": rows(2, 3), "old": rows(2, 2)})


def test_two_outputs_of_one_name_are_refused(layers):
    import keras

    x = keras.Input((2,), name="x")
    model = keras.Model(x, [layers.Dense(1)(x), layers.Dense(1, name="output_0")(x)])
    with pytest.raises(ExportFailedError, match="two outputs share a name: output_0, output_0"):
        Endpoint.of(model, {"x": rows(2, 2)})


def test_targets_are_known_by_the_names_of_fit_and_by_those_of_the_export(layers):
    import keras

    x = keras.Input((2,), name="x")
    model = keras.Model(x, [layers.Dense(1, name="price")(x), layers.Dense(1)(x)])
    endpoint = Endpoint.of(model, {"x": rows(2, 2)})
    assert endpoint.outputs == ("price", "output_1")
    assert endpoint.bind_targets({model.output_names[1]: rows(2)}).keys() == {"output_1"}
    assert endpoint.bind_targets({"price": rows(2), "output_1": rows(2)}).keys() == {"price", "output_1"}
    assert endpoint.bind_targets(None) == {}
    with pytest.raises(ExportFailedError, match="targets name no output: cost"):
        endpoint.bind_targets({"cost": rows(2)})


def test_targets_without_a_name_belong_to_the_only_output(classifier):
    endpoint = Endpoint.of(classifier.model, {"x": rows(2, 8)})
    assert endpoint.bind_targets(rows(2)).keys() == {"output_0"}
