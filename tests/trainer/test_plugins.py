"""The sample plugins: trained, killed and resumed to the bit, exported and served alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.compare import same_weights
from trainer import errors, plugin
from trainer.architecture import Base, recorded
from trainer.evaluating import evaluate
from trainer.fit import Trained, fit
from trainer.spec import EvaluateSpec, TrainSpec
from trainer.validating import validate

SAMPLES = Path(__file__).parents[2] / "deploy" / "plugins"
CROSSENTROPY = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
CASES: dict[str, dict[str, Any]] = {
    "subclassed_mlp": {
        "args": {"hidden": [8], "classes": 2},
        "data": {"features": "x", "label": "y"},
        "compile": CROSSENTROPY,
    },
    "two_tower": {
        "args": {"users": 5, "items": 7, "units": 4},
        "data": {"features": {"user": "user", "item": "item"}, "label": "y"},
        "compile": {"optimizer": "adam", "loss": "binary_crossentropy"},
    },
    "gan": {"args": {"features": 6, "units": 8}, "data": {"features": "x"}},
    "contrastive": {"args": {"units": 8}, "data": {"features": "x"}, "compile": {"optimizer": "adam"}},
    "gradient_loop": {"data": {"features": "x", "label": "y"}, "compile": CROSSENTROPY},
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv(plugin.VARIABLE, str(SAMPLES))
    plugin.plugins.cache_clear()
    yield
    plugin.plugins.cache_clear()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(96, 6)).astype(np.float32)
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(
        path, x=x, y=(x[:, 0] > 0).astype(np.int64), user=rng.integers(0, 5, 96), item=rng.integers(0, 7, 96)
    )
    return path


def body_of(name: str) -> dict[str, Any]:
    case = CASES[name]
    data = {"kind": "npz", "uri": "dataset://rows", "validation_split": 0.25, "pipeline": {"batch_size": 16}}
    return {
        "model": {"kind": "plugin", "name": name, "args": case.get("args", {})},
        "data": data | case["data"],
        "fit": {"epochs": 3},
        "checkpoint": {"every_steps": 2},
        "seed": 11,
    } | ({"compile": case["compile"]} if "compile" in case else {})


def test_every_sample_is_tried() -> None:
    assert CASES.keys() == plugin.plugins().keys()


ALL = [pytest.param(name, marks=() if name == "gan" else pytest.mark.full) for name in sorted(CASES)]


@pytest.mark.parametrize("name", ALL)
def test_a_plugin_is_trained_and_resumed_to_the_bit(
    name: str, run, killed, rows: Path, recorder, tmp_path: Path
) -> None:
    body = body_of(name)
    whole = fit(
        TrainSpec.model_validate(body),
        data_file=rows,
        workdir=tmp_path / "whole",
        seed=11,
        observer=recorder(),
    )
    losses = whole.history["loss"]
    assert losses[-1] != losses[0]
    # Polls an epoch: after 4 of 5 batches, after 2 of validation, and at the end.
    killed(body, polls=10, data_file=rows)
    trained: Trained = run(body, data_file=rows)
    assert trained.history == whole.history
    assert same_weights(trained.model, whole.model)


@pytest.mark.parametrize("name", ALL)
def test_a_plugins_model_is_exported_and_answers_alike(name: str, run, rows: Path, tmp_path: Path) -> None:
    from exporter.entries import read_entries
    from exporter.export import export
    from exporter.samples import Samples

    trained = run(body_of(name), data_file=rows)
    out = tmp_path / "out"
    out.mkdir()
    artifacts = export(
        trained.model,
        read_entries([{"format": "tflite"}, {"format": "onnx"}]),
        held_out=Samples(trained.rows.held_out.features, None),
        training=Samples(trained.rows.representative),
        out=out,
    )
    assert {artifact.name for artifact in artifacts} >= {"saved_model", "tflite", "onnx"}


@pytest.mark.parametrize("name", ALL)
def test_a_plugins_version_is_scored_and_trained_further(name: str, run, rows: Path, tmp_path: Path) -> None:
    body = body_of(name)
    first = run(body, data_file=rows)
    first.model.save_weights(tmp_path / "model.weights.h5")
    spec = TrainSpec.model_validate(body)
    base = Base.of(recorded(spec.model, first.model, None), tmp_path / "model.weights.h5")
    data = {key: value for key, value in body["data"].items() if key not in ("validation_split", "pipeline")}
    scored = evaluate(
        EvaluateSpec.model_validate({"data": data, "compile": body.get("compile", {})}),
        base=base,
        data_file=rows,
        on_phase=lambda _: None,
        interruption=lambda: None,
    )
    assert scored["rows"] == 96
    assert scored["metrics"]
    shutil.rmtree(tmp_path / "work")
    further = body | {"model": {"kind": "version", "name": name, "version": 1}}
    second = run(further, data_file=rows, base=base)
    assert recorded(TrainSpec.model_validate(further).model, second.model, base)["name"] == name
    # It went on from where the first run ended, and not from drawn weights.
    assert not same_weights(second.model, first.model)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_plugin_s_model_is_tried_dry(name: str, rows: Path) -> None:
    told = validate(TrainSpec.model_validate(body_of(name)), data_file=rows, seed=1, memory_bytes=1 << 33)
    assert (told["faults"], told["warnings"]) == ([], [])
    assert told["rows"] == {"validation": 24, "train": 72}
    assert told["model"]["parameters"] > 0


COUNTING = """
import keras
from pydantic import BaseModel
NAME = "counting"
class Arguments(BaseModel): pass
class Count(keras.callbacks.Callback):
    def on_train_begin(self, logs=None): self.epochs = []
    def on_epoch_end(self, epoch, logs): self.epochs.append(epoch)
    def on_train_end(self, logs=None): print("counted", self.epochs)
    def state(self): return {"epochs": self.epochs}
    def restore(self, state): self.epochs = state["epochs"]
def callbacks(model): return [Count()]
def build(): return keras.Sequential([keras.layers.Dense(2, activation="softmax")])
"""


def test_a_plugin_s_callback_goes_on_with_what_it_remembered(
    run, killed, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "counting.py").write_text(COUNTING)
    monkeypatch.setenv(plugin.VARIABLE, f"{tmp_path}/plugins/")
    plugin.plugins.cache_clear()
    body = body_of("gradient_loop") | {"model": {"kind": "plugin", "name": "counting"}}
    killed(body, polls=10, data_file=rows)
    run(body, data_file=rows)
    assert capsys.readouterr().out.splitlines()[-1] == "counted [0, 1, 2]"


def test_a_lambda_callback_writes_into_the_log(run, rows: Path, caplog) -> None:
    caplog.set_level("INFO", "fitserve_plugins.gradient_loop")
    run(body_of("gradient_loop"), data_file=rows)
    told = [line for line in caplog.messages if ", epoch " in line]
    assert [line.partition(", epoch ")[2].partition(":")[0] for line in told] == ["1", "2", "3"]
    assert "val_accuracy" in told[-1]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "two_towr"}, "no plugin 'two_towr'; did you mean 'two_tower'"),
        ({"name": "gan", "args": {}}, "Field required"),
        ({"name": "gan", "args": {"features": 0}}, "greater than or equal to 1"),
        ({"name": "gan", "args": {"features": 7}}, "can't build it"),
    ],
)
def test_what_a_plugin_does_not_take_is_told(model: dict[str, Any], said: str, run, rows: Path) -> None:
    with pytest.raises(errors.SpecUnbuildableError, match=said):
        run(body_of("gan") | {"model": {"kind": "plugin", **model}}, data_file=rows)


def test_plugins_describe_themselves_in_a_process_of_their_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer.plugin"],
        env={**os.environ, plugin.VARIABLE: str(SAMPLES)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found.keys() == CASES.keys()
    assert found["two_tower"]["schema"]["required"] == ["users", "items"]
    assert found["gan"]["description"].startswith("A GAN")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("NAME = 'x'", "declares no Arguments, build"),
        ("import nowhere", "No module named 'nowhere'"),
    ],
)
def test_what_is_no_plugin_is_told_by_name(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"bad_{len(source)}.py").write_text(source)
    monkeypatch.setenv(plugin.VARIABLE, f"{tmp_path}/")
    with pytest.raises(ImportError, match=said):
        plugin.plugins()
