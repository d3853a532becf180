"""Evaluate: score a published version on a data set, as training scored it on its test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.answers import complete, give_up, mark, resume
from service.bases import read_base
from service.data import data_file_of, place_of
from service.jobs import EventKind, Job, Status
from service.kind import Cancelled, Channel, Interrupted, Site
from service.memory import room_bytes
from service.protocol import Order

if TYPE_CHECKING:
    from trainer.observer import Interruption

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data and the version lie."""
    return {
        **place_of(site, job),
        "version_folder": str(site.store.folder(job.spec["model"], job.spec["version"])),
    }


def warm_up() -> None:
    """Import all that scoring needs."""
    from trainer.warming import warm_up as warm_up_trainer

    warm_up_trainer()


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Load the version and score every row of the data.

    Raises:
        trainer.errors.TrainerError: the data can't be read, or don't fit the model.
    """
    from trainer import errors
    from trainer.evaluating import evaluate
    from trainer.observer import Interruption
    from trainer.spec import EvaluateSpec

    def phase(name: str) -> None:
        channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": name})

    def interruption() -> Interruption | None:
        if channel.cancel_asked:
            return Interruption.CANCEL
        return Interruption.STOP if channel.stop_asked else None

    try:
        scored = evaluate(
            EvaluateSpec.model_validate({name: order.spec[name] for name in ("data", "compile")}),
            base=read_base(Path(order.details["version_folder"])),
            data_file=data_file_of(order.details, order.dataset_digest),
            on_phase=phase,
            interruption=interruption,
            workdir=Path(order.work_folder),
            memory_bytes=room_bytes(order.memory_limit_bytes),
        )
    except errors.Cancelled as error:
        raise Cancelled from error
    except errors.Interrupted as error:
        raise Interrupted from error
    return {"model": order.spec["model"], "version": order.spec["version"], **scored}
