"""The page of formats is that of the table: no run is needed for that."""

from __future__ import annotations

import re

from tests.formats.page import PAGE
from tests.formats.table import ARTIFACTS, REFUSED
from tests.formats.zoo import MODELS


def test_the_page_has_every_architecture_in_every_format() -> None:
    matrix, _, refused = PAGE.read_text().partition("## Refused")
    head, _, *rows = [
        line.split(" | ") for line in matrix.partition("| model | what")[0].splitlines() if "|" in line
    ]
    assert [each.strip("`| ") for each in head] == ["model", *ARTIFACTS], "run `make formats`"
    assert [row[0].strip("| ") for row in rows] == list(MODELS)
    empty = {
        (row[0].strip("| "), name)
        for row in rows
        for name, cell in zip(ARTIFACTS, row[1:], strict=True)
        if cell.strip("| ") == "refused"
    }
    assert empty == REFUSED.keys()
    assert set(re.findall(r"^- (\w+) as `(\S+)`:", refused, re.MULTILINE)) == empty
    assert (
        f"{len(MODELS) * len(ARTIFACTS)} cells: {len(MODELS) * len(ARTIFACTS) - len(REFUSED)} passed"
        in matrix
    )


def test_only_the_legacy_format_has_empty_cells() -> None:
    assert {artifact for _, artifact in REFUSED} == {"h5"}
