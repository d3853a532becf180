"""From a spec to a trained model: load, build, compile, fit; go on from a checkpoint if there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.architecture import build, inputs_of, outputs_of
from trainer.compiling import compile_model
from trainer.environment import describe, settle_threads
from trainer.errors import SpecUnbuildableError
from trainer.explaining import explained
from trainer.observer import Observer
from trainer.precision import compute_in
from trainer.resume import Checkpoints
from trainer.run import Run, Trained
from trainer.source import Samples, Splits, load
from trainer.spec import TrainSpec
from trainer.strategy import ONE_CPU, Devices, named, strategy_of

if TYPE_CHECKING:
    import keras

__all__ = ["Trained", "fit"]


def fit(
    spec: TrainSpec,
    *,
    data_file: Path,
    workdir: Path,
    seed: int,
    observer: Observer,
    devices: Devices = ONE_CPU,
) -> Trained:
    """Train what `spec` describes on `data_file`, going on from the newest good checkpoint in `workdir`.

    `seed` decides every random choice; where the spec itself names one, TensorFlow also runs its kernels
    deterministically, which some of them pay for with speed, and a resumed run with the threads of its
    checkpoint: it ends with the weights of an uninterrupted one, to the bit. For that, the process may have
    imported TensorFlow but not touched a device.

    Raises:
        OSError: the disk is full or failing; the last good checkpoints are still there.
        InvalidDataError, DataUnreachableError: the data.
        SpecUnbuildableError: the model or how it is compiled.
        NanLossError, OutOfMemoryError: training itself.
        Interrupted, Cancelled: the observer asked for it; after Interrupted another call goes on.
    """
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.sweep()
    start = checkpoints.newest(observer.note)
    recorded = start.values["environment"] if start else None
    if spec.seed is not None:
        settle_threads(recorded)
    strategy = strategy_of(spec.resources.strategy, devices)
    environment = describe(named(strategy), recorded, observer.note) if spec.seed is not None else None
    _sow(seed, deterministic=spec.seed is not None)
    observer.phase("loading_data")
    splits = load(spec.data, data_file, seed)
    with explained(), strategy.scope():
        model = build(spec.model, {name: array.shape[1:] for name, array in splits.train.features.items()})
        splits = _named_as(model, splits)
        compute_in(model, spec.resources.precision)
        if not model.compiled:
            compile_model(model, spec.compile)
        run = Run(
            spec,
            splits=splits,
            model=model,
            workdir=workdir,
            seed=seed,
            observer=observer,
            checkpoints=checkpoints,
            environment=environment,
            start=start,
        )
        observer.phase("training")
        return run.train()


def _sow(seed: int, *, deterministic: bool) -> None:
    import keras
    import tensorflow as tf

    # Keras numbers unnamed layers and metrics through the process's life; attempts must agree on the names.
    keras.utils.clear_session(
        free_memory=False
    )  # nothing was built before; looking through it all takes 0.2 s
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _named_as(model: keras.Model, splits: Splits) -> Splits:
    """Call a single input and a single target as the model calls them; several must have its names already.

    Raises:
        SpecUnbuildableError: the targets' names aren't the model's outputs.
    """
    takes, gives = [info.name for info in inputs_of(model)], [info.name for info in outputs_of(model)]
    targets = list(splits.train.targets)
    misnamed = len(gives) > 1 and set(targets) != set(gives)
    if targets and (len(targets) != len(gives) or misnamed):
        raise SpecUnbuildableError(
            f"the model's outputs are called {', '.join(gives)}, data.label gives {', '.join(targets)}",
            remedy="Give data.label as an object with the model's output names.",
            location={"pointer": "/data/label"},
        )

    def renamed(part: Samples | None) -> Samples | None:
        if part is None or len(takes) > 1:
            return part
        return replace(part, features={takes[0]: next(iter(part.features.values()))})

    train = renamed(splits.train)
    assert train is not None
    return Splits(train, renamed(splits.validation), renamed(splits.test), splits.digest)
