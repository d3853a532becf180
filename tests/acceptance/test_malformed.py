"""Malformed files, sent to a running stack: each becomes a data set that says what is wrong, and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fitserve import Client
from tests.acceptance.stack import RunningStack
from tests.trainer.sources.malformed import MALFORMED, Malformed, matches


def conversions(stack: RunningStack) -> set[Path]:
    return set(stack.home.rglob(".conversions/*/*"))


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_upload_fails_with_its_place(
    malformed: Malformed, client: Client, stack: RunningStack, tmp_path: Path
) -> None:
    path, before = tmp_path / malformed.filename, conversions(stack)
    path.write_bytes(malformed.content())
    dataset = client.upload(path)
    assert dataset.status == "failed"
    assert dataset.error is not None
    assert dataset.error["code"] == "invalid_data"
    assert re.search(malformed.says, str(dataset.error["detail"])), dataset.error
    assert matches(dataset.error.get("location"), malformed.location), dataset.error
    assert conversions(stack) == before
