from __future__ import annotations

import numpy as np
import pytest

from exporter import unrolling
from exporter.endpoint import Endpoint


def model_of(*layers, shape=(6, 4)):
    import keras

    return keras.Sequential([keras.Input(shape, name="x"), *layers])


def rows(model):
    return {"x": np.ones((2, *(size or 3 for size in model.input_shape[1:])), np.float32)}


@pytest.fixture(scope="module")
def layers():
    from keras import layers

    return layers


def operations(endpoint):
    """What the traced graph consists of, its functions included."""
    import tensorflow as tf

    graph = tf.function(endpoint.serve).get_concrete_function(*endpoint.tensor_specs()).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes}


LOOPS = {"While", "StatelessWhile"}


def test_an_unrolled_endpoint_has_no_loop_and_leaves_the_model_as_it_was(layers):
    model = model_of(layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.GRU(3))
    endpoint = Endpoint.of(model, rows(model))
    assert not operations(unrolling.unrolled(endpoint)) & LOOPS
    assert operations(endpoint) & LOOPS


def test_an_endpoint_of_one_row_keeps_its_names_and_its_free_length(layers):
    model = model_of(layers.LSTM(3), shape=(None, 4))
    endpoint = unrolling.one_row(Endpoint.of(model, rows(model)))
    assert [(each.name, each.shape) for each in endpoint.inputs] == [("x", (1, None, 4))]


def test_the_steps_are_those_of_the_layers_that_loop(layers):
    import keras

    x = keras.Input((6, 4), name="x")
    inner = keras.Sequential([keras.Input((6, 4)), layers.GRU(2, return_sequences=True, name="inner")])
    last, *state = layers.LSTM(2, return_state=True, name="encoder")(inner(x))
    repeated = layers.RepeatVector(3)(last)
    decoder = layers.LSTM(2, name="decoder", return_sequences=True)(repeated, initial_state=state)
    model = keras.Model(x, layers.SimpleRNN(2, unroll=True)(decoder))
    assert unrolling.steps(model) == {"inner": 6, "encoder": 6, "decoder": 3}


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (64, None),
        (65, "the recurrent layers take 260 steps in all, more than the 256 that are unrolled"),
        (None, "the sequence length of backward_lstm, forward_lstm, back, forward_front is free"),
    ],
)
def test_long_and_free_sequences_are_an_obstacle(layers, length, told):
    model = model_of(
        layers.Bidirectional(layers.LSTM(2, return_sequences=True, name="lstm")),
        layers.Bidirectional(
            layers.GRU(2, name="front"), backward_layer=layers.GRU(2, go_backwards=True, name="back")
        ),
        shape=(length, 4),
    )
    obstacle = unrolling.obstacle(model)
    assert obstacle == told
