"""FITSERVE_SLOTS: what it may say, and what a child sees of the host by it."""

from __future__ import annotations

import pytest

from service.jobs import SlotKind
from service.slots import LOGICAL_CPUS, TPU, SlotError, parse_slots


@pytest.mark.parametrize(
    ("text", "environments"),
    [
        ("cpu", [{"CUDA_VISIBLE_DEVICES": ""}]),
        ("cpu*2", [{"CUDA_VISIBLE_DEVICES": "", LOGICAL_CPUS: "2"}]),
        ("cpu; cpu*12", [{"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "", LOGICAL_CPUS: "12"}]),
        ("gpu0;gpu1,gpu2", [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1,2"}]),
        ("tpu", [{"CUDA_VISIBLE_DEVICES": "", TPU: "1"}]),
    ],
)
def test_a_slot_is_what_its_child_may_see(text: str, environments: list[dict[str, str]]) -> None:
    slots = parse_slots(text)
    assert [dict(slot.environment) for slot in slots] == environments
    assert {slot.kind for slot in slots} == {SlotKind.DEVICE}
    assert ";".join(slot.name for slot in slots) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no slot"),
        ("cpu*0", "'cpu\\*0' is no slot"),
        ("cpu*1", "'cpu\\*1' is no slot"),
        ("gpu", "'gpu' is no slot"),
        ("gpu0;gpu0", "gpu0 is in two slots"),
        ("tpu;tpu", "tpu is in two slots"),
    ],
)
def test_what_is_no_slot_is_told(text: str, said: str) -> None:
    with pytest.raises(SlotError, match=said):
        parse_slots(text)
