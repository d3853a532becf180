"""Inspect: say what a model is, layer by layer, without training it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.answers import complete, give_up, mark, resume
from service.bases import base_folder, base_of
from service.jobs import Job
from service.kind import Channel, Site
from service.protocol import Order

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the version lies that the model starts from, if it does."""
    return base_folder(job, site.store)


def warm_up() -> None:
    """Nothing: whoever waits to read a table should not hold half a gigabyte of TensorFlow for it."""


def run(order: Order, channel: Channel) -> Mapping[str, Any]:  # noqa: ARG001 - the contract of kinds
    """Build the model without its weights and describe it.

    Raises:
        trainer.errors.SpecUnbuildableError: Keras refuses the description.
    """
    from trainer.inspecting import inspect
    from trainer.spec import InspectSpec

    spec = InspectSpec.model_validate(order.spec)
    rows = None if spec.inputs is None else {name: tuple(shape) for name, shape in spec.inputs.items()}
    base = base_of(order.details)
    return inspect(spec.model, rows, how=spec.compile, batch_size=spec.batch_size, base=base)
