"""Export: make and prove further artifacts of a published version, and keep them beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.entries import refuse_infeasible
from service.answers import mark, resume
from service.bases import read_base
from service.data import data_file_of, place_of
from service.exporting import bounds, exported
from service.jobs import EventKind, Job, Phase, Status
from service.kind import Channel, Site
from service.memory import room_bytes
from service.protocol import Order
from service.reexport import ExportSpec
from serving.store import Store

if TYPE_CHECKING:
    from service.records import Claim

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data and the version lie, and where the artifacts are staged."""
    return {
        **place_of(site, job),
        **bounds(site.settings),
        "store_root": str(site.settings.store_root),
        "version_folder": str(site.store.folder(job.spec["model"], job.spec["version"])),
    }


def warm_up() -> None:
    """Import all that exporting needs."""
    import exporter.export  # noqa: F401
    from trainer.warming import warm_up as warm_up_trainer

    warm_up_trainer()


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Build the version's model again, export and prove it, and stage the artifacts.

    Raises:
        trainer.errors.TrainerError: the data can't be read, or don't fit the model.
        exporter.errors.ExporterError: an artifact could not be made or proven.
    """
    from trainer.reopening import reopen

    spec = ExportSpec.model_validate(order.spec)
    refuse_infeasible([entry for entry in spec.export if not entry.optional])
    version = Path(order.details["version_folder"])
    channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": Phase.LOADING_DATA.value})
    model, rows = reopen(
        spec.data,
        seed=spec.seed,
        base=read_base(version),
        data_file=data_file_of(order.details, order.dataset_digest),
        workdir=Path(order.work_folder),
        memory_bytes=room_bytes(order.memory_limit_bytes),
    )
    store = Store(Path(order.details["store_root"]))
    staging = store.stage(spec.model, order.job_id, order.token)
    artifacts = exported(order, model, spec.export, rows, staging, channel, saved_model=version)
    return {"artifacts": store.seal_additions(staging, order.job_id, artifacts)}


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:
    """Give the staged artifacts their place beside the version, and mark the job succeeded.

    It can be done again at any point: what has its place already stays there.
    """
    if not site.records.claims.holds(claim):
        return False
    model, number = claim.job.spec["model"], claim.job.spec["version"]
    names = [artifact["name"] for artifact in outcome["artifacts"]]
    kept = site.store.add(model, number, claim.job.id, claim.token, names)
    result = {"model": model, "version": number, "artifacts": kept}
    done = site.records.versions.added(claim, model, number, kept, result)
    if done:
        site.store.collect(model, claim.job.id)
    return done


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:  # noqa: ARG001 - contract of kinds
    """Remove what was staged."""
    site.store.collect(claim.job.spec["model"], claim.job.id)
