"""One attempt at a run: fit what is left, checkpoint, choose the weights, judge the outcome."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.architecture import TensorInfo, inputs_of, outputs_of
from trainer.callback import CallbackContext, artifact, best_weights, callbacks, close
from trainer.diagnosis import Meter, Setup
from trainer.environment import Environment
from trainer.explaining import explained
from trainer.observer import Observer
from trainer.pace import Pace
from trainer.pipeline import Pipeline, evaluation_dataset, stages_of, training_dataset
from trainer.plugin import OwnState, callbacks_of
from trainer.precision import Precision, compute_in
from trainer.resume import Checkpoint, Checkpoints
from trainer.rows import ProofRows, judged, proof_rows
from trainer.samples import Samples, Splits
from trainer.spec import CallbackSpec, ExportWeights, TrainSpec
from trainer.variables import agree, arrays_of, optimizers_of, put_back, variables_of
from trainer.watch import Kept, Watch, metrics_of
from trainer.weighting import class_weights

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from trainer.fitted import Fitted
    from trainer.profile import Anomaly

_IMPLIED = CallbackSpec.model_validate(
    {
        "class_name": "ModelCheckpoint",
        "config": callbacks()["ModelCheckpoint"].Options.model_validate({"save_best_only": True}),
    }
)


@dataclass(frozen=True)
class Trained:
    """A trained model, with what its exports are proven and judged by.

    `metrics` has `last` and `best` (the epochs' own, val_ included) and `test` (None without a test part).
    `rows` are those that exports are proven by; `judgement` says by output how the model does on those held
    out (`trainer.judging`). `files` are what callbacks wrote for the job's owner: a file or a folder, by the
    artifact's name. `fitted` is what was learnt of the columns. `parts` says how many rows each part of the
    data has, `anomalies` what looked wrong in them.
    """

    model: keras.Model
    metrics: Mapping[str, Mapping[str, float] | None]
    history: Mapping[str, list[float]]
    best_epoch: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    rows: ProofRows
    epochs_run: int
    resumed_from: int | None
    steps_per_execution: int
    judgement: Mapping[str, Any]
    files: Mapping[str, Path]
    parts: Mapping[str, int]
    anomalies: tuple[Anomaly, ...] = ()
    fitted: Fitted | None = None


@dataclass
class Running:
    """The epoch that Keras is in, from 0."""

    epoch: int = 0


class Run:
    """One attempt's model, data, callbacks and checkpoints."""

    def __init__(
        self,
        spec: TrainSpec,
        *,
        splits: Splits,
        model: keras.Model,
        workdir: Path,
        seed: int,
        observer: Observer,
        checkpoints: Checkpoints,
        environment: Environment | None,
        start: Checkpoint | None,
    ) -> None:
        self._spec, self._splits, self._model, self._start = spec, splits, model, start
        self._dtypes = {info.name: info.dtype for info in inputs_of(model)}
        self._pipeline = Pipeline.of(spec.data.pipeline, splits, seed)
        self._checkpoints = checkpoints
        self._kept = self._make_callbacks(workdir, start)
        self._last_weights: list[np.ndarray] = []
        self._built = False
        self._class_weight = class_weights(spec.fit.class_weight, splits.train)
        self._pace = Pace(
            spec.compile.steps_per_execution if not spec.compile.run_eagerly else 1,
            model=model,
            batch_size=spec.data.pipeline.batch_size,
            steps=self._pipeline.steps,
            epochs=spec.fit.epochs,
            most=spec.checkpoint.every_steps,
            seeded=spec.seed is not None,
        )
        self._watch = Watch(
            epochs=spec.fit.epochs,
            steps_per_epoch=self._pipeline.steps,
            kept=self._kept,
            checkpoints=checkpoints,
            schedule=spec.checkpoint,
            observer=observer,
            origin={
                "data": splits.state(),
                "pipeline": self._pipeline.state(),
                "environment": None if environment is None else asdict(environment),
            },
            pace=self._pace,
            meter=Meter(
                stages_of(splits.train, spec.data.pipeline),
                Setup(
                    kept=splits.fitted.kept if splits.fitted else "memory",
                    batch_size=spec.data.pipeline.batch_size,
                    augments=bool(spec.data.pipeline.augment),
                    seeded=spec.seed is not None,
                ),
            ),
        )

    def train(self) -> Trained:
        """Fit what is left to fit, choose the weights to export, and checkpoint the end."""
        start = self._start
        if start is not None:
            self._splits.restore(start.values["data"])
            self._pipeline.restore(start.values["pipeline"])
            self._watch.restore(start)
            self._watch.tell_where()
            self._watch.tell_again()
        if start is not None and start.complete:
            put_back(start, "model", variables_of(self._model))
            compute_in(self._model, Precision.FLOAT32)
            return self._trained(start, start.values["test"])
        newest = start
        while (newest := self._fit(newest)) is not None:
            self._watch.restore(newest)
        self._watch.tell_pipeline(last=True)
        self._choose_weights()
        agree(self._model)
        compute_in(self._model, Precision.FLOAT32)  # as every export and server will
        test = self._evaluate()
        arrays = arrays_of("model", variables_of(self._model))
        self._checkpoints.save(self._watch.checkpoint(complete=True, arrays=arrays, values={"test": test}))
        return self._trained(start, test)

    def _fit(self, start: Checkpoint | None) -> Checkpoint | None:
        """Fit from a checkpoint to the last epoch's end; return where another fit has to go on.

        Keras's epochs are all of one length and one pace: what is left of an epoch that is entered at a step
        is a fit of its own, and so is one after which the pace may change.
        """
        epoch, step, last = 0, 0, self._spec.fit.epochs
        if start is not None:
            epoch, step = start.epoch, start.step
        pace = self._set_pace(epoch)
        alone = not self._watch.stopped and epoch < last and (step > 0 or self._pace.may_change_after(epoch))
        order = self._pipeline.order(epoch, step)
        whole_calls = order.left % pace == 0
        running = Running()
        data = training_dataset(
            self._splits.train,
            order,
            dtypes=self._dtypes,
            options=self._pipeline.options,
            # A call that asks for more batches than its epoch has must find an end.
            only=None if whole_calls else lambda: running.epoch,
        )
        validation = self._splits.validation
        self._watch.keep_end_of(epoch + 1 if alone else 0)
        with explained(), contextlib.ExitStack() as open_files:
            for kept in self._kept:
                open_files.callback(close, kept.module, kept.callback)
            self._build_rest(data)
            if start is not None:
                self._put_back(start, data)
            self._model.fit(
                data,
                # A run that a callback ended has no epoch left, but its callbacks still have their last word.
                initial_epoch=last if self._watch.stopped else epoch,
                epochs=epoch + 1 if alone else last,
                steps_per_epoch=order.left if whole_calls else None,
                validation_data=None if validation is None else self._rows(validation),
                class_weight=self._class_weight,
                callbacks=self._callbacks(order.left, running),
                shuffle=False,  # the order is the pipeline's
                verbose=0,
            )
        return self._watch.ended if alone else None

    def _set_pace(self, epoch: int) -> int:
        pace = self._pace.at(epoch)
        if self._model.steps_per_execution != pace:
            self._model.steps_per_execution = pace
            # They were traced at another pace.
            self._model.train_function = self._model.test_function = None
        return pace

    def _callbacks(self, steps: int, running: Running) -> keras.callbacks.CallbackList:
        import keras

        run = self

        class EpochBegins(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                running.epoch = epoch

        class LastWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
            def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
                run._last_weights = self.model.get_weights()

        # First, before another callback puts the best weights back at the end.
        first = [LastWeights()] if self._spec.export_weights is ExportWeights.LAST else []
        return keras.callbacks.CallbackList(
            [EpochBegins(), *first, *(kept.callback for kept in self._kept), self._watch.callback()],
            add_history=True,
            model=self._model,
            # Of the whole run, though one that was entered within an epoch is fitted in two parts.
            epochs=self._spec.fit.epochs,
            steps=steps,
        )

    def _build_rest(self, data: tf.data.Dataset) -> None:
        """Make the variables of metrics, losses and optimizer, which Keras makes when it first meets a batch.

        So a checkpoint finds variables to be put back into, and the first step is traced once and not twice:
        TensorFlow traces a function again that made variables (0.5 s for a small network).
        """
        import keras
        import tensorflow as tf

        if self._built:
            return
        self._built = True

        def symbol(spec: tf.TensorSpec) -> keras.KerasTensor:
            return keras.KerasTensor(spec.shape, dtype=spec.dtype.name)

        try:
            self._model._symbolic_build(data_batch=tf.nest.map_structure(symbol, data.element_spec))
        except Exception:
            # What doesn't fit is told better by the kernels, which see values, and in `explained` words.
            self._model.evaluate(data, steps=1, verbose=0)

    def _trace(self, data: tf.data.Dataset) -> None:
        """Trace a step without running it: only the step itself knows what its further optimizers train."""
        import tensorflow as tf

        strategy = self._model.distribute_strategy
        step = tf.function(lambda batch: strategy.run(self._model.train_step, args=(batch,)))
        step.get_concrete_function(data.element_spec)

    def _put_back(self, start: Checkpoint, data: tf.data.Dataset) -> None:
        put_back(start, "model", variables_of(self._model))
        optimizer = self._model.optimizer
        if not optimizer.built:  # LossScaleOptimizer makes its variables anew each time
            optimizer.build(self._model.trainable_variables)
        if not all(each.built for each in optimizers_of(self._model).values()):
            self._trace(data)
        for owner, optimizer in optimizers_of(self._model).items():
            put_back(start, owner, optimizer.variables)

    def _make_callbacks(self, workdir: Path, start: Checkpoint | None) -> list[Kept]:
        wanted = list(self._spec.fit.callbacks)
        if self._spec.export_weights is ExportWeights.BEST and not any(map(_keeps_best, wanted)):
            monitor = "val_loss" if self._spec.data.validates else "loss"
            wanted.append(
                _IMPLIED.model_copy(
                    update={"config": _IMPLIED.config.model_copy(update={"monitor": monitor})}
                )
            )
        kept = [Kept(OwnState, callback) for callback in callbacks_of(self._model)]
        for number, spec in enumerate(wanted):
            folder = workdir / f"callback-{number}"
            if start is None:  # what an attempt without a checkpoint left
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            module = callbacks()[spec.class_name]
            kept.append(Kept(module, module.build(spec.config, CallbackContext(folder))))
        return kept

    def _choose_weights(self) -> None:
        """Leave in the model what `export_weights` asks for; by default the best, if a callback kept them."""
        if self._spec.export_weights is ExportWeights.LAST:
            self._model.set_weights(self._last_weights)
            return
        for kept in self._kept:
            best = best_weights(kept.module, kept.callback)
            if best is not None:
                self._model.set_weights(best)
                return

    def _evaluate(self) -> dict[str, float] | None:
        test = self._splits.test
        if test is None:
            return None
        return metrics_of(self._model.evaluate(self._rows(test), return_dict=True, verbose=0))

    def _rows(self, samples: Samples) -> tf.data.Dataset:
        return evaluation_dataset(samples, dtypes=self._dtypes, options=self._spec.data.pipeline)

    def _trained(self, newest: Checkpoint | None, test: Mapping[str, float] | None) -> Trained:
        history = self._watch.history
        best = self._watch.best_epoch
        rows = proof_rows(self._model, self._splits)
        judgement = judged(self._model, self._spec.compile, rows.held_out, self._spec.data.pipeline)
        return Trained(
            model=self._model,
            metrics={"last": _at(history, -1), "best": _at(history, best - 1), "test": test},
            history=history,
            best_epoch=best,
            inputs=inputs_of(self._model),
            outputs=outputs_of(self._model),
            rows=rows,
            epochs_run=self._watch.epoch,
            resumed_from=None if newest is None else newest.epoch,
            steps_per_execution=self._pace.at(self._spec.fit.epochs - 1),
            judgement={"part": rows.part, "rows": len(rows.held_out), "outputs": judgement},
            files=dict(filter(None, (artifact(kept.module, kept.callback) for kept in self._kept))),
            parts={name: len(part) for name, part in reversed(self._splits.by_use()) if part is not None},
            anomalies=self._splits.anomalies,
            fitted=self._splits.fitted,
        )


def _keeps_best(callback: CallbackSpec) -> bool:
    return any(getattr(callback.config, name, False) for name in ("restore_best_weights", "save_best_only"))


def _at(history: Mapping[str, list[float]], index: int) -> dict[str, float]:
    return metrics_of({name: values[index] for name, values in history.items() if values})
