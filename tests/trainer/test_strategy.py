"""Several devices a job: mirrored over two logical CPUs, in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import SpecUnbuildableError
from trainer.strategy import Devices, Strategy, strategy_of

# Logical devices can only be made before TensorFlow has touched one.
PROGRAM = (
    """
import hashlib, json, os, signal, sys
import numpy as np
from trainer.fit import fit
from trainer.spec import TrainSpec
from trainer.strategy import Devices

order = json.loads(sys.argv[1])

class Noting:
    notes, polls = [], 0
    def phase(self, name): pass
    def progress(self, progress): pass
    def epoch(self, epoch): pass
    def pipeline(self, diagnosis): pass
    def note(self, message): self.notes.append(message)
    def interruption(self):
        self.polls += 1
        if self.polls == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

trained = fit(TrainSpec.model_validate(order["spec"]), data_file=order["file"], workdir=order["workdir"],
              seed=11, observer=Noting(), devices=Devices(cpus=order["cpus"]))
rows = trained.rows.held_out.features[trained.inputs[0].name]
out = order["workdir"] / "model"
trained.model.export(str(out), verbose=False)
import tensorflow as tf
loaded = tf.saved_model.load(str(out))
served = loaded.serve(tf.constant(rows))
print(json.dumps({
    "replicas": trained.model.distribute_strategy.num_replicas_in_sync,
    "weights": hashlib.sha256(b"".join(w.tobytes() for w in trained.model.get_weights())).hexdigest(),
    "history": trained.history,
    "notes": Noting.notes,
    "difference": float(np.abs(served.numpy() - trained.model.predict(rows, verbose=0)).max()),
}))
""".replace('order["file"]', 'Path(order["file"])')
    .replace('order["workdir"]', 'Path(order["workdir"])')
    .replace("import numpy", "from pathlib import Path\nimport numpy")
)


def fit_apart(spec: dict[str, Any], file: Path, workdir: Path, *, cpus: int = 2, kill_at: int = 0) -> Any:
    order = {"spec": spec, "file": str(file), "workdir": str(workdir), "cpus": cpus, "kill_at": kill_at}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(order)], capture_output=True, text=True, check=False
    )
    if kill_at:
        assert done.returncode == -9, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def spec(images_document: dict[str, Any]) -> dict[str, Any]:
    return images_document | {"checkpoint": {"every_steps": 2}, "fit": {"epochs": 3}}


@pytest.fixture(scope="module")
def mirrored(spec: dict[str, Any], images_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit_apart(spec, images_file, tmp_path_factory.mktemp("mirrored"))


@pytest.fixture(scope="module")
def killed(spec: dict[str, Any], images_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a mirrored run leaves that was killed within its second epoch."""
    workdir = tmp_path_factory.mktemp("killed")
    fit_apart(spec, images_file, workdir, kill_at=11)
    return workdir


@pytest.fixture
def left(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "work"))


def test_a_slot_of_two_devices_mirrors_and_exports_what_it_trained(mirrored: Any) -> None:
    assert mirrored["replicas"] == 2
    assert mirrored["history"]["loss"][-1] < mirrored["history"]["loss"][0]
    assert mirrored["difference"] <= 1e-6


@pytest.mark.full
def test_a_mirrored_run_is_resumed_to_the_bit(
    spec: dict[str, Any], mirrored: Any, images_file: Path, left: Path
) -> None:
    again = fit_apart(spec, images_file, left)
    assert again["notes"] == ["goes on from epoch 2, step 2 of 6"]
    assert (again["weights"], again["history"]) == (mirrored["weights"], mirrored["history"])


@pytest.mark.full
def test_a_run_that_goes_on_with_other_devices_says_so(
    spec: dict[str, Any], images_file: Path, left: Path
) -> None:
    again = fit_apart(spec, images_file, left, cpus=1)
    assert "strategy was 'MirroredStrategy over 2 devices', is 'one device'" in again["notes"][0]


@pytest.mark.parametrize(("asked", "said"), [(Strategy.MIRRORED, "needs several"), (Strategy.TPU, "no TPU")])
def test_devices_that_are_not_there_are_told(asked: Strategy, said: str) -> None:
    with pytest.raises(SpecUnbuildableError, match=said):
        strategy_of(asked, Devices())


def test_one_device_may_be_asked_for() -> None:
    assert strategy_of(Strategy.ONE_DEVICE, Devices()).num_replicas_in_sync == 1
