"""Validate: try a training job dry, and tell everything that can be told of it before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.entries import Entry, with_saved_model
from exporter.format import missing
from service.answers import complete, give_up, mark, resume
from service.bases import base_folder, base_of
from service.data import data_file_of, place_of
from service.exporting import bounds, present_signature, refuse_signatures, tried
from service.jobs import Job, JobSpec
from service.kind import Channel, Site
from service.memory import room_bytes
from service.protocol import Order

if TYPE_CHECKING:
    import keras

    from trainer.rows import ProofRows

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data lies, and the version that the model starts from."""
    return {
        **place_of(site, job),
        **bounds(site.settings),
        "signature": present_signature(site.store, job.spec["name"]),
        **base_folder(job, site.store),
    }


def warm_up() -> None:
    """Nothing: whoever waits to read a table should not hold half a gigabyte of TensorFlow for it."""


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Look at the spec, the data and the model, try its exports, and train nothing."""
    from trainer.compiling import compile_model
    from trainer.reopening import untrained
    from trainer.validating import validate
    from trainer.warming import warm_up

    warm_up()  # before memory is measured: training holds it all too
    assert order.seed is not None
    spec = JobSpec.model_validate(order.spec)
    file, base = data_file_of(order.details, order.dataset_digest), base_of(order.details)
    how: dict[str, Any] = {
        "seed": order.seed,
        "base": base,
        "memory_bytes": room_bytes(order.memory_limit_bytes),
        "workdir": Path(order.work_folder),
    }
    found = validate(spec, data_file=file, **how)
    faults = [*found["faults"]]
    exports = [feasibility(entry) for entry in with_saved_model(spec.export)]
    if not found["faults"]:
        model, rows = untrained(spec, data_file=file, **how)
        if not model.compiled:  # some exports depend on the loss
            compile_model(model, spec.compile)
        if not spec.allow_signature_change:
            faults += _changed(model, rows, spec, order.details["signature"])
        reasons = tried(order, model, spec.export, rows, channel)
        exports = [
            {**each, "feasible": reasons[each["name"]] is None, "reason": reasons[each["name"]]}
            for each in exports
        ]
    faults += [
        {"pointer": f"/export/{index}", "detail": each["reason"]}
        for index, entry in enumerate(spec.export)
        for each in exports
        if each["name"] == entry.name and not each["feasible"] and not entry.optional
    ]
    return {**found, "faults": faults, "exports": exports}


def _changed(
    model: keras.Model, rows: ProofRows, spec: JobSpec, present: Mapping[str, Any] | None
) -> Iterator[dict[str, str]]:
    """Say how the model's signature would differ from that of its newest version."""
    from exporter.errors import ExportFailedError, SignatureChangedError
    from trainer.rows import Built

    row = {name: array[:1] for name, array in rows.representative.items()}
    try:
        refuse_signatures(
            Built(model, row, rows.preprocessing, None), spec.export, class_names=None, present=present
        )
    except SignatureChangedError as error:
        yield {"pointer": "/allow_signature_change", "detail": f"{error}; {error.remedy}"}
    except ExportFailedError:
        return  # told of its export, which is tried


def feasibility(entry: Entry) -> dict[str, Any]:
    """Say of an artifact whether this worker can make it, and what would have to be installed."""
    lacking = list(missing(entry.maker))
    return {
        "name": entry.name,
        "format": entry.format,
        "missing": lacking,
        "feasible": not lacking,
        "reason": "; ".join(lacking) or None,
    }
