"""Ingest: read an upload once, and record its kind, schema and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.answers import mark, resume
from service.data import data_file_of, place_of
from service.jobs import EventKind, Job, Phase, Status
from service.kind import Channel, Site
from service.protocol import Order

if TYPE_CHECKING:
    from service.records import Claim

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]
SCHEMA_FIELDS = ("name", "dtype", "shape")


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the upload lies, and what it was called."""
    return {
        **place_of(site, job),
        "filename": job.spec["filename"],
    }


def warm_up() -> None:
    """Import every source; each imports what reads its files when it is asked to."""
    import trainer.source

    trainer.source.sources()


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Inspect the file with the source that reads it.

    Raises:
        trainer.errors.TrainerError: no source reads such a file, or it is damaged.
    """
    from trainer.profiling import inspect
    from trainer.source import detect

    channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": Phase.LOADING_DATA.value})
    file = data_file_of(order.details, order.dataset_digest)
    assert file is not None
    kind = detect(file.path, order.details["filename"])
    profile = inspect(file, kind).model_dump(mode="json")
    columns = profile["columns"]
    return {
        "kind": kind,
        "schema": {
            "rows": profile["rows"],
            "columns": [{name: column[name] for name in SCHEMA_FIELDS} for column in columns],
        },
        "statistics": {
            column["name"]: {name: value for name, value in column.items() if name not in SCHEMA_FIELDS}
            for column in columns
        },
        "anomalies": profile["anomalies"],
    }


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:
    """Record what was found, and that the row is done."""
    return site.records.datasets.ingested(claim, outcome)


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:
    """Leave it at that: the data set reads on this row why it can't be used."""
