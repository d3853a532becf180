"""A dry run: everything that can be told of a spec and its data before training, every fault at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.architecture import Base, outputs_of
from trainer.compiling import compile_errors
from trainer.errors import SpecUnbuildableError, TrainerError
from trainer.explaining import explained
from trainer.fitted import known_to
from trainer.fitting import Finding, class_weight_findings, index_findings, loss_findings
from trainer.inspecting import Sketch, describe, sketch
from trainer.keeping import place_of
from trainer.loading import load
from trainer.memory import shown, too_large
from trainer.profile import Anomaly
from trainer.rows import check_targets, named_as
from trainer.samples import Splits
from trainer.source import DataFile, DataOptions

if TYPE_CHECKING:
    from trainer.spec import TrainSpec


def validate(
    spec: TrainSpec,
    *,
    data_file: DataFile | Path | None,
    seed: int,
    base: Base | None = None,
    memory_bytes: int | None = None,
    workdir: Path | None = None,
) -> dict[str, Any]:
    """Look at the spec and read the data, but train nothing and make no weight; JSON.

    `faults` are what training would fail for, `warnings` what it would go badly with: each `pointer` and
    `detail`. `rows` counts those of each part, `model` is what `trainer.inspecting` says; both are null
    where a fault keeps them from being known. `memory_bytes` is what training may take beside the process;
    rows that don't fit are kept in `workdir` meanwhile.
    """
    with place_of(workdir) as folder:
        return _validated(spec, DataFile.of(data_file), seed, base, memory_bytes, folder)


def _validated(
    spec: TrainSpec,
    file: DataFile | None,
    seed: int,
    base: Base | None,
    memory_bytes: int | None,
    folder: Path | None,
) -> dict[str, Any]:
    findings = [_finding(error) for error in compile_errors(spec.compile)]
    splits, model = None, None
    fitted = known_to(base, spec.model)
    try:
        splits = load(spec.data, file, seed, folder=folder, published=fitted, memory_bytes=memory_bytes)
        findings += [_warning(anomaly, spec.data) for anomaly in splits.anomalies]
    except TrainerError as error:
        findings.append(_finding(error, "/data"))
    try:
        with explained():
            rows = None if splits is None else splits.train.shapes
            model = sketch(
                spec.model,
                rows,
                how=None if any(each.fatal for each in findings) else spec.compile,
                base=base,
            )
    except TrainerError as error:
        findings.append(_finding(error, "/model"))
    described = None if model is None else describe(model, spec.data.pipeline.batch_size)
    if splits is not None and model is not None and model.model.built:
        findings += _fit(spec, model, splits)
        if memory_bytes is not None and described is not None:
            findings += _memory(model, described["training_bytes"], memory_bytes)
    return {
        "faults": [_said(finding) for finding in findings if finding.fatal],
        "warnings": [_said(finding) for finding in findings if not finding.fatal],
        "rows": None if splits is None else _counts(splits),
        "model": described,
    }


def _fit(spec: TrainSpec, sketched: Sketch, splits: Splits) -> Iterator[Finding]:
    """Yield what doesn't fit between the model and the data."""
    model = sketched.model
    outputs = outputs_of(model)
    try:
        check_targets([info.name for info in outputs], list(splits.train.targets))
    except SpecUnbuildableError as error:
        yield _finding(error)
        return
    if not model.compiled:  # a plugin that compiles has a loss of its own
        yield from loss_findings(spec.compile, model, outputs, _whole(splits))
    yield from class_weight_findings(spec.fit.class_weight, outputs)
    yield from index_findings(model, named_as(model, splits).train.features)


def _memory(sketched: Sketch, training: dict[str, Any], memory_bytes: int) -> Iterator[Finding]:
    if sketched.kept_bytes > memory_bytes:
        yield _finding(too_large(sketched.kept_bytes, memory_bytes))
        return
    if training["total"] <= memory_bytes:
        return
    batch_size = training["batch_size"]
    a_row = training["activations"] / batch_size
    most = int((memory_bytes - training["total"] + training["activations"]) // a_row) if a_row else 0
    yield Finding(
        "/data/pipeline/batch_size",
        f"training on batches of {batch_size:,} takes about {shown(training['total'])}, and "
        f"{shown(memory_bytes)} are there: "
        + (f"{most:,} rows a batch would fit" if most > 0 else "no batch would fit"),
    )


def _whole(splits: Splits) -> dict[str, Any]:
    """Return every target of every part: a class may be missing in one."""
    import numpy as np

    parts = [part for _, part in splits.by_use() if part is not None]
    return {name: np.concatenate([part.targets[name][:] for part in parts]) for name in splits.train.targets}


def _counts(splits: Splits) -> dict[str, int]:
    return {name: len(part) for name, part in splits.by_use() if part is not None}


def _finding(error: TrainerError, pointer: str = "") -> Finding:
    where = str((error.location or {}).get("pointer", pointer))
    return Finding(where, error.detail)


def _warning(anomaly: Anomaly, data: DataOptions) -> Finding:
    """What looks wrong in the data, at the column as the spec names it, or at its split."""
    name = anomaly.column
    if name is None and anomaly.part is not None:
        place = anomaly.part
    elif name is None:
        place = "split" if data.split is not None else "validation_split"
    elif name in data.columns:
        place = f"columns/{name.replace('~', '~0').replace('/', '~1')}"
    else:
        place = "label" if any(name in columns for columns in data.targets.values()) else "features"
    return Finding(f"/data/{place}", str(anomaly), fatal=False)


def _said(finding: Finding) -> dict[str, str]:
    return {"pointer": finding.pointer, "detail": finding.detail}
