"""docs/formats.md: what the matrix of architectures and formats came to in one run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.formats.table import ARTIFACTS, FLOAT16, FLOAT32
from tests.formats.zoo import MODELS

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
MODULE = "tests/formats/test_matrix.py"
TEST = "test_an_architecture_becomes_every_format"
Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]

HEAD = f"""\
<!-- Written by `make formats` from a run of {MODULE}. -->
# Formats

Architectures by formats: each model is trained, exported, loaded by the format's own runtime in another
process, and asked the rows that training didn't see. A cell says how it answered: in 32 and 16 bits the
largest difference from the Keras model in any number, in 8 bits the accuracy that was lost (negative:
gained).
`weights` (`.weights.h5`) is in every version and compared bit by bit. Options and tolerances are in the
[job spec](job-spec.md#export).

"""


def cells_of(reports: Iterable[object]) -> dict[str, dict[str, dict[str, Any]]]:
    """Gather what the matrix recorded: by model, then by artifact."""
    return {
        report.nodeid.partition("[")[2].removesuffix("]"): {
            name: json.loads(str(value)) for name, value in report.user_properties
        }
        for report in reports
        if isinstance(report, pytest.TestReport)
        and report.when == "call"
        and report.nodeid.startswith(f"{MODULE}::{TEST}[")
    }


def counted(cells: Cells) -> dict[str, int]:
    """Count the cells that were run, passed and refused."""
    all_cells = [each for model in cells.values() for each in model.values()]
    refused = sum("refused" in each for each in all_cells)
    return {"run": len(all_cells), "passed": len(all_cells) - refused, "refused": refused}


def text_of(cells: Cells) -> str:
    """Write the page."""
    return HEAD + "\n".join(_lines(cells)) + "\n"


def _lines(cells: Cells) -> Iterator[str]:
    counts = counted(cells)
    yield f"{counts['run']} cells: {counts['passed']} passed, {counts['refused']} refused."
    yield ""
    yield "| model | " + " | ".join(f"`{name}`" for name in ARTIFACTS) + " |"
    yield "|---" * (len(ARTIFACTS) + 1) + "|"
    for model in MODELS:
        yield f"| {model} | " + " | ".join(_cell(name, cells[model][name]) for name in ARTIFACTS) + " |"
    yield ""
    yield "| model | what it is |"
    yield "|---|---|"
    for model, make in MODELS.items():
        yield f"| {model} | {(make.__doc__ or '').rstrip('.')} |"
    yield ""
    yield "## Sizes"
    yield ""
    yield "Bytes against `tflite`, the model in float32 and nothing else."
    yield ""
    yield "| model | " + " | ".join(f"`{name}`" for name in ARTIFACTS) + " |"
    yield "|---" * (len(ARTIFACTS) + 1) + "|"
    for model in MODELS:
        sizes = [_size(cells[model][name], cells[model]["tflite"]) for name in ARTIFACTS]
        yield f"| {model} | " + " | ".join(sizes) + " |"
    refused = [
        (model, name, cells[model][name]["refused"])
        for model in MODELS
        for name in ARTIFACTS
        if "refused" in cells[model][name]
    ]
    if refused:
        yield ""
        yield "## Refused"
        yield ""
        for model, name, told in refused:
            yield f"- {model} as `{name}`: {told}"


def _cell(name: str, cell: Mapping[str, Any]) -> str:
    if "refused" in cell:
        return "refused"
    if name in FLOAT32 or name in FLOAT16:
        return f"{cell['difference']:.0e}"
    return "-" if cell["lost"] is None else f"{cell['lost']:+.1%}"


def _size(cell: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    return "-" if "refused" in cell or "refused" in whole else f"{cell['bytes'] / whole['bytes']:.2f}"
