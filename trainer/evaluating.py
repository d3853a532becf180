"""A published model on rows it was not trained on: its loss and metrics, and how it errs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.architecture import Base, inputs_of, restored
from trainer.compiling import compile_model
from trainer.errors import Cancelled, Interrupted
from trainer.explaining import explained
from trainer.keeping import place_of
from trainer.loading import load
from trainer.observer import Interruption
from trainer.pipeline import evaluation_dataset
from trainer.rows import judged, named_as
from trainer.samples import Splits
from trainer.source import DataFile
from trainer.watch import metrics_of

if TYPE_CHECKING:
    import keras

    from trainer.spec import EvaluateSpec


def evaluate(
    spec: EvaluateSpec,
    *,
    base: Base,
    data_file: DataFile | Path | None,
    on_phase: Callable[[str], None],
    interruption: Callable[[], Interruption | None],
    workdir: Path | None = None,
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """Score the version on every row of the data; JSON: `rows`, `metrics` and `outputs` (`trainer.judging`).

    `interruption` is asked after every batch. Rows that don't fit into `memory_bytes` are kept in `workdir`
    meanwhile.

    Raises:
        InvalidDataError, DataUnreachableError: the data.
        SpecUnbuildableError: the model, or the data don't fit it.
        Interrupted, Cancelled: as it was asked to; nothing is kept.
    """
    on_phase("loading_data")
    with place_of(workdir) as folder:
        splits = load(
            spec.data,
            DataFile.of(data_file),
            seed=0,
            folder=folder,
            published=base.fitted,
            memory_bytes=memory_bytes,
        )
        with explained():
            return _scored(spec, base, splits, on_phase, interruption)


def _scored(
    spec: EvaluateSpec,
    base: Base,
    splits: Splits,
    on_phase: Callable[[str], None],
    interruption: Callable[[], Interruption | None],
) -> dict[str, Any]:
    model = restored(base, splits.train.shapes)
    rows = named_as(model, splits).train
    if not model.compiled:
        compile_model(model, spec.compile)
    on_phase("evaluating")
    dtypes = {info.name: info.dtype for info in inputs_of(model)}
    metrics = model.evaluate(
        evaluation_dataset(rows, dtypes=dtypes, options=spec.data.pipeline),
        return_dict=True,
        verbose=0,
        callbacks=[_asking(interruption)],
    )
    outputs = judged(model, spec.compile, rows, spec.data.pipeline)
    return {"rows": len(rows), "metrics": metrics_of(metrics), "outputs": outputs}


def _asking(interruption: Callable[[], Interruption | None]) -> keras.callbacks.Callback:
    """Ask after every batch whether to go on."""
    import keras

    class Asking(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
            match interruption():
                case Interruption.CANCEL:
                    raise Cancelled("cancelled while scoring")
                case Interruption.STOP:
                    raise Interrupted("stopped while scoring")

    return Asking()
