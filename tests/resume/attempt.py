"""One attempt in a process of its own: `python -m tests.resume.attempt ORDER.json`; it may kill itself."""
# ruff: noqa: ARG002 - the signatures of Keras

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


class Noting:
    """An observer that keeps the notes and the points of the learning curves."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.points: list[dict[str, Any]] = []

    def phase(self, name: str) -> None: ...

    def progress(self, progress: Any) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)

    def epoch(self, epoch: Any) -> None:
        self.points.append({"epoch": epoch.epoch, "step": epoch.step, **epoch.metrics})

    def pipeline(self, diagnosis: Any) -> None: ...

    def interruption(self) -> None:
        return None


def die() -> None:
    """No goodbye: no handler, no `finally`, no buffer flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def watch_steps(steps: int, log: Path, kill: dict[str, Any]) -> None:
    """Have every `fit` write down its steps, and die at the one asked for, before the trainer sees it."""
    import keras

    fit = keras.Model.fit
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    class Killer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.epoch = epoch + 1
            # What is left of an epoch is a fit of its own, whose batches count from 0.
            self.before = steps - self.params["steps"]

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            step = self.before + batch + 1
            os.write(descriptor, f"{self.epoch} {step}\n".encode())
            if kill.get("on") == "step" and (self.epoch, step) == (kill["epoch"], kill["step"]):
                die()

        def on_test_batch_end(self, batch: int, logs: object = None) -> None:
            if kill.get("on") == "validation" and self.epoch == kill["epoch"]:
                die()

    def watched(self: keras.Model, *args: Any, callbacks: keras.callbacks.CallbackList, **kwargs: Any) -> Any:
        killer = Killer()
        killer.set_params(callbacks.params)
        callbacks.callbacks.insert(0, killer)
        return fit(self, *args, callbacks=callbacks, **kwargs)

    keras.Model.fit = watched


def die_in_checkpoint(number: int, stage: str) -> None:
    """Die in the checkpoint of that number (from 1): its arrays written, or all of it, or the next pruned."""
    begun = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal begun
        if event not in {"os.mkdir", "open", "os.rename", "shutil.rmtree"}:
            return
        path = str(arguments[0])
        if event == "os.mkdir" and "/.tmp-" in path:
            begun += 1
        if begun < number:
            return
        if (
            (stage == "arrays" and event == "open" and path.endswith("state.json"))
            or (stage == "rename" and event == "os.rename" and "/.tmp-" in path)
            or (stage == "prune" and event == "shutil.rmtree" and "/.tmp-" in path)
        ):
            die()

    sys.addaudithook(audit)


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    kill = order["kill"] or {}
    if order["one_cpu"]:
        # Before TensorFlow counts them: as on a host that has no more.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from trainer.fit import fit
    from trainer.spec import TrainSpec
    from trainer.strategy import Devices

    watch_steps(order["steps"], Path(order["log"]), kill)
    if kill.get("on") == "checkpoint":
        die_in_checkpoint(kill["number"], kill["stage"])
    spec = TrainSpec.model_validate(order["spec"])
    observer = Noting()
    trained = fit(
        spec,
        data_file=order["data_file"] and Path(order["data_file"]),
        workdir=Path(order["workdir"]),
        seed=spec.seed or 0,
        observer=observer,
        devices=Devices(cpus=order["cpus"]),
    )
    variables = [
        [variable.path, str(variable.dtype), hashlib.sha256(variable.numpy().tobytes()).hexdigest()]
        for variable in trained.model.variables
    ]
    Path(order["result"]).write_text(
        json.dumps(
            {
                "variables": variables,
                "history": trained.history,
                "points": observer.points,
                "notes": observer.notes,
                "epochs": trained.epochs_run,
            }
        )
    )


if __name__ == "__main__":
    main()
