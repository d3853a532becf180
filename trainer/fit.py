"""From a spec to a trained model: load, build, compile, fit; go on from a checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.architecture import Base, build
from trainer.compiling import compile_model
from trainer.environment import describe, settle_threads
from trainer.explaining import explained
from trainer.fitted import known_to
from trainer.loading import load
from trainer.memory import refuse_beyond
from trainer.observer import Observer
from trainer.precision import compute_in
from trainer.resume import Checkpoints
from trainer.rows import Built, built, named_as
from trainer.run import Run, Trained
from trainer.source import DataFile
from trainer.spec import TrainSpec
from trainer.strategy import ONE_CPU, Devices, named, strategy_of

__all__ = ["Trained", "fit"]


def fit(
    spec: TrainSpec,
    *,
    data_file: DataFile | Path | None,
    workdir: Path,
    seed: int,
    observer: Observer,
    devices: Devices = ONE_CPU,
    base: Base | None = None,
    memory_bytes: int | None = None,
    on_built: Callable[[Built], None] | None = None,
) -> Trained:
    """Train what `spec` describes on `data_file`, going on from the newest good checkpoint in `workdir`.

    `seed` decides every random choice; where the spec itself names one, TensorFlow also runs its kernels
    deterministically, which some of them pay for with speed, and a resumed run with the threads of its
    checkpoint: it ends with the weights of an uninterrupted one, to the bit. For that, the process may have
    imported TensorFlow but not touched a device. `base` is the version that the model starts from, if any.
    A model whose training keeps more than `memory_bytes` is refused before it takes them. `on_built` is told
    the model before it is trained, and may refuse it.

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
    observer.phase("loading_data")
    splits = load(
        spec.data,
        DataFile.of(data_file),
        seed,
        folder=workdir / "data",
        published=known_to(base, spec.model),
        memory_bytes=memory_bytes,
    )
    for anomaly in splits.anomalies:
        observer.note(f"looks wrong in the data: {anomaly}")
    if memory_bytes is not None:
        refuse_beyond(memory_bytes, spec, splits.train.shapes, base)
    _sow(seed, deterministic=spec.seed is not None)
    with explained(), strategy.scope():
        model = build(spec.model, splits.train.shapes, base)
        splits = named_as(model, splits)
        compute_in(model, spec.resources.precision)
        if not model.compiled:
            compile_model(model, spec.compile)
        if on_built is not None:
            on_built(built(model, splits))
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
