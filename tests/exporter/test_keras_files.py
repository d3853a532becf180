from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from exporter.entries import read_entries
from exporter.errors import ExportFailedError
from exporter.export import export
from exporter.samples import Samples

SUBCLASS = """
import keras


@keras.saving.register_keras_serializable("shop")
class Prices(keras.Model):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.price = keras.layers.Dense(1)

    def call(self, inputs):
        return self.price(self.hidden(inputs))

    def get_config(self):
        return {**super().get_config(), "units": self.units}
"""


@pytest.fixture(scope="module")
def subclassed(tmp_path_factory: pytest.TempPathFactory):
    """A model of a class that only a file knows, exported to what Keras writes."""
    import importlib.util

    import keras

    file = tmp_path_factory.mktemp("code") / "prices_of_a_shop.py"
    file.write_text(SUBCLASS)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(3).normal(size=(80, 4)).astype(np.float32)
    model = module.Prices(5)
    model.compile("adam", "mse")
    model.fit(x, x.sum(axis=1), verbose=0)
    out, skipped = tmp_path_factory.mktemp("version"), {}
    entries = [
        {"format": "keras"},
        {"format": "keras", "name": "whole", "include_optimizer": True},
        {"format": "h5", "optional": True},
    ]
    rows = Samples({"sizes": x})
    artifacts = export(
        model, read_entries(entries), held_out=rows, training=rows, out=out, on_skip=skipped.__setitem__
    )
    yield SimpleNamespace(artifacts={each.name: each for each in artifacts}, out=out, skipped=skipped)
    del sys.modules[file.stem]


def test_a_subclassed_model_is_proven_by_its_own_code_in_another_process(subclassed):
    assert subclassed.artifacts["keras"].parity.agrees
    assert subclassed.artifacts["keras"].parity.max_abs_diff < 1e-6


def test_the_optimizer_is_kept_where_it_is_asked_for(subclassed):
    def config(name: str) -> str:
        with zipfile.ZipFile(subclassed.out / subclassed.artifacts[name].path) as file:
            return file.read("config.json").decode()

    assert '"compile_config": {}' in config("keras")
    assert '"Adam"' in config("whole")
    assert subclassed.artifacts["whole"].size_bytes > subclassed.artifacts["keras"].size_bytes


def test_h5_says_that_it_takes_no_subclassed_model(subclassed):
    error = subclassed.skipped["h5"]
    assert isinstance(error, ExportFailedError)
    assert "subclassed" in str(error).lower()


def test_a_model_loaded_in_keras_is_quiet_and_not_compiled(exported, tmp_path):
    path = exported.out / exported.artifacts["keras"].path
    code = (
        "import keras, sys\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.compiled, [weight.shape for weight in model.weights][:1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, str(Path(path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("False")
