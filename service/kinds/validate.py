"""Validate: try a training job dry, and tell everything that can be told of it before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.entries import Entry, with_saved_model
from exporter.format import missing
from service.answers import complete, give_up, mark, resume
from service.bases import base_folder, base_of
from service.data import data_file_of, place_of
from service.jobs import Job, JobSpec
from service.kind import Channel, Site
from service.memory import room_bytes
from service.protocol import Order

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data lies, and the version that the model starts from."""
    return {**place_of(site, job), **base_folder(job, site.store)}


def warm_up() -> None:
    """Nothing: whoever waits to read a table should not hold half a gigabyte of TensorFlow for it."""


def run(order: Order, channel: Channel) -> Mapping[str, Any]:  # noqa: ARG001 - the contract of kinds
    """Look at the spec, the data and the model, and train nothing."""
    from trainer.validating import validate
    from trainer.warming import warm_up

    warm_up()  # before memory is measured: training holds it all too
    assert order.seed is not None
    spec = JobSpec.model_validate(order.spec)
    found = validate(
        spec,
        data_file=data_file_of(order.details, order.dataset_digest),
        seed=order.seed,
        base=base_of(order.details),
        memory_bytes=room_bytes(spec.limits.memory_bytes),
        workdir=Path(order.work_folder),
    )
    return {**found, "exports": feasibility(spec.export)}


def feasibility(export: Sequence[Entry]) -> list[dict[str, Any]]:
    """Say of each artifact whether this worker can make it, and what would have to be installed."""
    return [
        {"name": entry.name, "format": entry.format, "missing": lacking, "feasible": not lacking}
        for entry in with_saved_model(export)
        for lacking in [list(missing(entry.maker))]
    ]
