from __future__ import annotations

import numpy as np
import pytest

from exporter.errors import ExportFailedError
from exporter.weights import write_weights


def test_the_file_holds_every_variable_of_the_model(image_classifier, tmp_path):
    import keras

    file = tmp_path / "assets.extra" / "model.weights.h5"
    assert write_weights(image_classifier.model, file) == f"keras {keras.__version__} save_weights"

    again = keras.Sequential.from_config(image_classifier.model.get_config())
    again.load_weights(file)
    rows = image_classifier.train["image"][:5]
    assert np.array_equal(again.predict(rows, verbose=0), image_classifier.model.predict(rows, verbose=0))


def test_a_variable_that_keras_did_not_save_is_noticed(tmp_path):
    import keras

    class Forgetful(keras.layers.Dense):
        def save_own_variables(self, store):
            store["0"] = self.kernel

    model = keras.Sequential([keras.Input((2,)), Forgetful(3, bias_initializer="ones")])
    with pytest.raises(ExportFailedError, match=r"model.weights.h5 lacks variables of shape \(3,\)"):
        write_weights(model, tmp_path / "model.weights.h5")


def test_what_an_optimizer_keeps_stays_out_of_the_file(tmp_path):
    import h5py
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    file = tmp_path / "model.weights.h5"
    write_weights(model, file)
    with h5py.File(file) as stored:
        datasets = []
        stored.visititems(
            lambda name, item: datasets.append(name) if isinstance(item, h5py.Dataset) else None
        )
    assert datasets == ["layers/dense/vars/0", "layers/dense/vars/1"]
    model.optimizer.save_own_variables({})  # Keras's own again
