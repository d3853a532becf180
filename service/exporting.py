"""What training and a later export share: the exporter is given a model, and its steps are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.jobs import EventKind, Status
from service.kind import Cancelled, Channel, Interrupted
from service.memory import left_bytes
from service.protocol import Order
from service.settings import Settings
from serving.store import Store
from trainer.columns import image
from trainer.table import BYTES, Field

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from exporter.converter import Converter
    from exporter.entries import Entry
    from exporter.errors import ExporterError
    from trainer.rows import Built, ProofRows

TRIED_S = 120.0
"""A dry run waits no longer for one artifact."""

# Any: a JSON document, an artifact as manifests have it.
Record = dict[str, Any]

_COLOR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


def bounds(settings: Settings) -> dict[str, Any]:
    """What an order's details say of the exports' bounds."""
    return {"export_s": settings.export_s}


def present_signature(store: Store, model: str) -> Mapping[str, Any] | None:
    """The signatures of the model's newest version, which programs out there rely on."""
    newest = max(store.versions(model), default=None)
    return None if newest is None else store.manifest(model, newest).signature


def exported(
    order: Order,
    model: keras.Model,
    entries: Sequence[Entry],
    rows: ProofRows,
    out: Path,
    channel: Channel,
    *,
    class_names: Sequence[str] | None = None,
    present: Mapping[str, Any] | None = None,
    saved_model: Path | None = None,
) -> list[Record]:
    """Export and prove, as `exporter.export` does; the artifacts' records lack size and digest.

    The store measures what it keeps and sends. The order's details have `bounds`.

    Raises:
        Cancelled, Interrupted: the supervisor asked for it.
        exporter.errors.ExporterError: an artifact could not be made or proven.
    """
    from exporter.export import export

    def step(phase: str, artifact: str) -> None:
        data = {"status": Status.RUNNING.value, "phase": phase, "artifact": artifact}
        channel.tell(EventKind.STATUS, data)

    def skipped(artifact: str, error: ExporterError) -> None:
        channel.tell(EventKind.LOG, {"message": f"{artifact} was left out: {error}"})

    with _converter(order, channel, order.details["export_s"]) as converter:
        artifacts = export(
            model,
            entries,
            **_rows(rows),
            out=out,
            class_names=class_names,
            present=present,
            saved_model=saved_model,
            on_step=step,
            on_skip=skipped,
            should_stop=_asked_to_end(channel),
            converter=converter,
        )
    records = [artifact.to_json() for artifact in artifacts]
    for record in records:
        del record["size_bytes"], record["sha256"]
    return records


def refuse_signatures(
    built: Built,
    entries: Sequence[Entry],
    *,
    class_names: Sequence[str] | None,
    present: Mapping[str, Any] | None,
) -> None:
    """Refuse a model before it is trained, as `exporter.preflight.refuse_signatures` does.

    Raises:
        exporter.errors.ExporterError: a signature would differ, or isn't for such a model.
    """
    from exporter import preflight

    preflight.refuse_signatures(
        built.model,
        entries,
        row=built.row,
        preparation=built.preprocessing,
        class_names=class_names,
        decode_images=decode_images,
        present=present,
    )


def tried(
    order: Order, model: keras.Model, entries: Sequence[Entry], rows: ProofRows, channel: Channel
) -> Mapping[str, str | None]:
    """Try which artifacts an untrained model can become, as `exporter.preflight` does.

    Raises:
        Cancelled, Interrupted: the supervisor asked for it.
    """
    from exporter.preflight import preflight

    with _converter(order, channel, min(order.details["export_s"], TRIED_S)) as converter:
        return preflight(
            model, entries, **_rows(rows), should_stop=_asked_to_end(channel), converter=converter
        )


def decode_images(files: tf.Tensor, height: int, width: int, channels: int) -> tf.Tensor:
    """Make files into pixels, uint8 (rows, height, width, channels), as a column of images does."""
    options = image.Options.model_validate(
        {"kind": image.KIND, "image_size": (height, width), "color_mode": _COLOR_MODES[channels]}
    )
    return image.transform(options, Field(BYTES), {}, image.KIND).apply(files)


def _asked_to_end(channel: Channel) -> Callable[[], bool]:
    return lambda: channel.stop_asked or channel.cancel_asked


@contextmanager
def _converter(order: Order, channel: Channel, timeout_s: float) -> Iterator[Converter]:
    """Open a converter that takes what the job has left, and ends as the supervisor asks."""
    from exporter.converter import Converter
    from exporter.errors import ExportStoppedError

    memory_bytes = left_bytes(order.memory_limit_bytes)
    try:
        with Converter(
            timeout_s=timeout_s, memory_bytes=memory_bytes, should_stop=_asked_to_end(channel)
        ) as converter:
            yield converter
    except ExportStoppedError as error:
        raise (Cancelled if channel.cancel_asked else Interrupted) from error


def _rows(rows: ProofRows) -> dict[str, Any]:
    """The rows as the exporter takes them."""
    from exporter.samples import Samples

    return {
        "held_out": Samples(rows.held_out.features, _targets(rows), rows.requests),
        "training": Samples(rows.representative, requests=rows.representative_requests),
        "preparation": rows.preprocessing,
        "decode_images": decode_images,
    }


def _targets(rows: ProofRows) -> Any:  # noqa: ANN401 - one array, or arrays by output name
    """The targets as the exporter wants them: a single one belongs to the single output, by any name."""
    targets = rows.held_out.targets
    if not targets:
        return None
    return next(iter(targets.values())) if len(targets) == 1 else targets
