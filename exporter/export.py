"""From a trained Keras model to artifacts that are proven to give its answers.

The SavedModel is written here, from the live model; every other format is converted from the SavedModel's
folder, or from that of a stand-in, in a child process. Each artifact is then loaded by its own runtime in
that child, asked the held-out rows, and its answers are compared with the model's.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.artifact import Artifact, measure
from exporter.bench import Bench
from exporter.converter import Converter
from exporter.entries import SAVED_MODEL, Entry, further, refuse_infeasible, with_saved_model
from exporter.errors import (
    ConverterKilledError,
    ExporterError,
    ExportFailedError,
    ExportMismatchError,
    ExportStoppedError,
    SignatureChangedError,
    making_failed,
)
from exporter.preparation import Preparation
from exporter.samples import Samples
from exporter.signatures import changes, signature_of
from exporter.weights import NAME as WEIGHTS
from exporter.weights import PATH as WEIGHTS_PATH
from exporter.weights import write_weights

if TYPE_CHECKING:
    import keras

    from exporter.endpoint import DecodeImages

OnStep = Callable[[str, str], None]
"""Told the phase, "exporting" or "verifying", and the artifact's name, before the phase begins."""
OnSkip = Callable[[str, ExporterError], None]
"""Told the name of an optional artifact that could not be made or proven, and why."""

_log = logging.getLogger(__name__)


def export(
    model: keras.Model,
    entries: Sequence[Entry],
    *,
    held_out: Samples,
    training: Samples,
    out: Path,
    preparation: Preparation | None = None,
    class_names: Sequence[str] | None = None,
    decode_images: DecodeImages | None = None,
    present: Mapping[str, Any] | None = None,
    saved_model: Path | None = None,
    timed: bool = True,
    on_step: OnStep | None = None,
    on_skip: OnSkip | None = None,
    should_stop: Callable[[], bool] | None = None,
    converter: Converter | None = None,
) -> list[Artifact]:
    """Write and prove the SavedModel, every entry and the weights; `out` becomes a version's folder.

    The order is that of the entries, the SavedModel first and the weights last. The rows of `training`
    calibrate int8, and fill up what was held out where that is little. An `optional` entry that fails is left
    out of the result and of `out`. `class_names`, of the one output's classes by number, and `decode_images`
    are for the SavedModel's further signatures. A `converter` that is given stays open; else an own one is
    started and ended.

    `present` are the signatures that must stay as they are, as a version's manifest has them. With
    `saved_model`, the folder of a version of this model, only the entries are made, out of that one.
    Unless it is `timed`, no artifact's latency is measured.

    Raises:
        EntriesError: the entries contradict each other.
        SignatureChangedError: a signature differs from that in `present`.
        ExportFailedError: an artifact could not be made, or its runtime could not run it.
        NoRoomError: the disk is full.
        ExportMismatchError: an artifact answers differently from the model.
        ExportStoppedError: `should_stop` said so.
    """
    whole = saved_model is None
    entries = with_saved_model(entries) if whole else further(entries)
    stop = should_stop or (lambda: False)
    step = on_step or (lambda _phase, _name: None)
    skip = on_skip or _log_skip
    artifacts: list[Artifact] = []
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="fitserve-export-") as scratch,
        _open(converter, should_stop) as opened,
    ):
        bench = Bench.prepare(
            model,
            held_out,
            training,
            preparation=preparation,
            class_names=class_names,
            decode_images=decode_images,
            saved_model=saved_model or out,
            timed=timed,
            out=out,
            scratch=Path(scratch),
            converter=opened,
        )
        for entry in entries:
            _raise_if(stop)
            try:
                refuse_infeasible([entry])
                step("exporting", entry.name)
                recipe = bench.make(entry)
                if entry.format == SAVED_MODEL and (changed := [*changes(present or {}, signature_of(out))]):
                    raise SignatureChangedError(changed)
                step("verifying", entry.name)
                artifacts.append(bench.prove(entry, recipe))
            except (ExportFailedError, ExportMismatchError) as error:
                if not entry.optional or isinstance(error, ConverterKilledError):
                    raise
                _remove(out / entry.path)
                skip(entry.name, error)
        if whole:
            bench.write_warmup(entries[0])
    _raise_if(stop)
    if whole:
        step("exporting", WEIGHTS)
        artifacts.append(_weights(model, out))
    return artifacts


def _open(
    converter: Converter | None, should_stop: Callable[[], bool] | None
) -> AbstractContextManager[Converter]:
    return Converter(should_stop=should_stop) if converter is None else nullcontext(converter)


def _weights(model: keras.Model, out: Path) -> Artifact:
    try:
        recipe = write_weights(model, out / WEIGHTS_PATH)
    except OSError as error:
        raise making_failed(WEIGHTS, str(error)) from error
    size_bytes, sha256 = measure(out / WEIGHTS_PATH)
    return Artifact(
        name=WEIGHTS,
        format=WEIGHTS,
        path=WEIGHTS_PATH,
        size_bytes=size_bytes,
        sha256=sha256,
        options={},
        runtime=None,
        recipe=recipe,
        parity=None,
        latency_ms=None,
        load_ms=None,
    )


def _raise_if(stop: Callable[[], bool]) -> None:
    if stop():
        raise ExportStoppedError("stopped between two exports")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _log_skip(name: str, error: ExporterError) -> None:
    _log.warning("optional export %r is left out: %s", name, error)
