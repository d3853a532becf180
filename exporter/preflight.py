"""Which formats a model can become, tried before it is trained: converters look at the architecture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.converter import Converter
from exporter.endpoint import Endpoint
from exporter.entries import SAVED_MODEL, Entry, with_saved_model
from exporter.errors import ExporterError, ExportFailedError, ExportMismatchError, SignatureChangedError
from exporter.export import export
from exporter.format import missing
from exporter.formats.saved_model import Options, intended
from exporter.samples import Samples
from exporter.signatures import changes

if TYPE_CHECKING:
    import keras

    from exporter.endpoint import DecodeImages
    from exporter.format import Arrays
    from exporter.preparation import Preparation

ROWS = 32
"""How many held-out rows an artifact is asked: enough to see that it runs."""


def preflight(
    model: keras.Model,
    entries: Sequence[Entry],
    *,
    held_out: Samples,
    training: Samples,
    preparation: Preparation | None = None,
    decode_images: DecodeImages | None = None,
    should_stop: Callable[[], bool] | None = None,
    converter: Converter | None = None,
) -> Mapping[str, str | None]:
    """Make and run each artifact of a model that may know nothing yet, and keep none.

    By artifact: why it can't be made, or None. What 8 bits lose can't be told before training, so a quantized
    artifact that runs is one that can be made.

    Raises:
        EntriesError: the entries contradict each other.
        ExportStoppedError: `should_stop` said so.
        NoRoomError: the disk is full.
    """
    entries = with_saved_model(entries)
    can_be_tried = [entry for entry in entries if not missing(entry.maker)]
    refused: dict[str, ExporterError] = {}
    with tempfile.TemporaryDirectory(prefix="fitserve-preflight-") as folder:
        try:
            export(
                model,
                [
                    entry if entry.format == SAVED_MODEL else entry.model_copy(update={"optional": True})
                    for entry in can_be_tried
                ],
                held_out=_first(held_out),
                training=training,
                preparation=preparation,
                decode_images=decode_images,
                out=Path(folder),
                timed=False,
                on_skip=refused.__setitem__,
                should_stop=should_stop,
                converter=converter,
            )
        except (ExportFailedError, ExportMismatchError) as error:  # of the SavedModel, which the others need
            return {entry.name: str(error) for entry in entries}
    said = {name: str(error) for name, error in refused.items() if not _learnt(entries, name, error)}
    return {entry.name: "; ".join(missing(entry.maker)) or said.get(entry.name) for entry in entries}


def refuse_signatures(
    model: keras.Model,
    entries: Sequence[Entry],
    *,
    row: Arrays,
    preparation: Preparation | None = None,
    class_names: Sequence[str] | None = None,
    decode_images: DecodeImages | None = None,
    present: Mapping[str, Any] | None = None,
) -> None:
    """Refuse what could be asked of the model by other names than callers use, or not at all.

    Nothing is written: it takes as long as tracing the model, and no time where nothing could be refused.
    `row` is a row of the data, `present` as in `export`.

    Raises:
        SignatureChangedError: a signature would differ from that in `present`.
        ExportFailedError: a further signature isn't for such a model.
    """
    (saved_model, *_) = with_saved_model(entries)
    assert isinstance(saved_model.options, Options)
    if not present and not saved_model.options.signatures:
        return
    endpoint = Endpoint.of(model, row, preparation, class_names=class_names, decode_images=decode_images)
    changed = [*changes(present or {}, intended(endpoint, saved_model.options))]
    if changed:
        raise SignatureChangedError(changed)


def _learnt(entries: Sequence[Entry], name: str, error: ExporterError) -> bool:
    """Tell whether it is the weights that decide, and not the architecture."""
    (allowed,) = (entry.allowed for entry in entries if entry.name == name)
    return isinstance(error, ExportMismatchError) and allowed.metric_delta is not None


def _first(samples: Samples) -> Samples:
    requests = None
    if samples.requests is not None:
        requests = {name: array[:ROWS] for name, array in samples.requests.items()}
    return Samples({name: array[:ROWS] for name, array in samples.features.items()}, requests=requests)
