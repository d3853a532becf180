"""The overlap detector detects, and what it detects is the children's lease being off."""

from __future__ import annotations

import pytest

from tests.faults.control import control


@pytest.mark.full
def test_children_without_their_lease_overlap_and_children_with_it_do_not() -> None:
    told: list[str] = []
    assert control(1, told.append) == 0, "\n".join(told)
