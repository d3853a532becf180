"""Slots: sets of devices that one attempt at a time may use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.jobs import SlotKind

LOGICAL_CPUS, TPU = "FITSERVE_LOGICAL_CPUS", "FITSERVE_TPU"
"""How a child learns of devices that TensorFlow's own variables don't name."""


class SlotError(ValueError):
    """FITSERVE_SLOTS can't be read."""


@dataclass(frozen=True)
class Slot:
    """One place where an attempt can run.

    `environment` is set before the child imports TensorFlow, which reads the visible devices only then.
    """

    name: str
    kind: SlotKind
    environment: Mapping[str, str] = field(default_factory=dict)


SHORT = Slot("short", SlotKind.SHORT, {"CUDA_VISIBLE_DEVICES": ""})
"""The CPU child that every worker keeps for short work beside its device slots."""

FETCH = Slot("fetch", SlotKind.FETCH, {"CUDA_VISIBLE_DEVICES": ""})
"""The child that brings data from elsewhere, where the operator allows some place."""
FOR_FETCHING = ("AWS_", "GOOGLE_", "FSSPEC_", "STORAGE_EMULATOR_HOST", "SSL_CERT_")
"""What that child alone inherits of the worker's environment: endpoints, credentials, authorities."""

_ONE = re.compile(r"(?P<cpu>cpu(\*(?P<cpus>[2-9]|[1-9]\d+))?)|(?P<gpus>gpu\d+(,gpu\d+)*)|(?P<tpu>tpu)")


def parse_slots(text: str) -> tuple[Slot, ...]:
    """Read FITSERVE_SLOTS: slots apart by `;`, the devices of one by `,`.

    Raises:
        SlotError: a part is none of cpu, cpu*N, gpuN[,gpuM] or tpu, or a device is in two slots.
    """
    slots = tuple(_slot(part.strip()) for part in text.split(";") if part.strip())
    if not slots:
        raise SlotError(f"FITSERVE_SLOTS names no slot; write cpu, gpu0;gpu1 or tpu. Received: {text!r}")
    devices = [
        device for slot in slots for device in slot.name.split(",") if device.startswith(("gpu", "tpu"))
    ]
    twice = sorted({device for device in devices if devices.count(device) > 1})
    if twice:
        raise SlotError(f"{', '.join(twice)} is in two slots; an attempt needs its devices for itself")
    return slots


def _slot(part: str) -> Slot:
    match = _ONE.fullmatch(part)
    if match is None:
        raise SlotError(f"{part!r} is no slot; use cpu, cpu*2, gpu0, gpu1,gpu2 or tpu")
    if match["cpu"]:
        cpus = {LOGICAL_CPUS: match["cpus"]} if match["cpus"] else {}
        return Slot(part, SlotKind.DEVICE, {"CUDA_VISIBLE_DEVICES": ""} | cpus)
    if match["gpus"]:
        numbers = ",".join(re.findall(r"\d+", part))
        return Slot(part, SlotKind.DEVICE, {"CUDA_VISIBLE_DEVICES": numbers})
    return Slot(part, SlotKind.DEVICE, {"CUDA_VISIBLE_DEVICES": "", TPU: "1"})
