"""docs/topics.md: the table of topics with the figures of one run."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.topics.table import EXAMPLE_TEST, MODULE, TOPICS, Topic

PAGE = Path(__file__).parents[2] / "docs" / "topics.md"
WIDTH = 120
BAR = 60
COLUMNS = ("parameters", "epochs", "loss", "held_out", "training_s")

HEAD = f"""\
<!-- Written by `make topics` from a run of {MODULE}; change tests/topics/table.py instead. -->
# What Keras courses teach, here

Topic by topic: what introductions to TensorFlow and Keras teach, what to do about it with fitserve, and specs
that do it. `make topics` sends each spec to a running stack, waits until its version answers over gRPC and
REST as the trained model did, and writes this page. The tests that it runs are in
`{MODULE}`, the figures are of its last run, on a CPU: *loss* is the last epoch's in
training, *held out* the metrics on rows that were not trained on, *training* the seconds between loading the
data and exporting, which vary with what else a machine does.
"""


def figures_of(report: Path) -> dict[str, dict[str, str]]:
    """Read from pytest's JUnit report what the examples' tests recorded, by example."""
    found = {}
    for case in ET.parse(report).iter("testcase"):
        match = re.fullmatch(rf"{EXAMPLE_TEST}\[(\w+)\]", case.attrib["name"])
        if match is not None:
            found[match[1]] = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
    return found


def text_of(figures: Mapping[str, Mapping[str, str]]) -> str:
    """Write the page.

    Raises:
        KeyError: the run has no figures of an example.
    """
    lines = [HEAD, *(line for topic in TOPICS for line in _section(topic, figures))]
    return "\n".join(lines).rstrip() + "\n"


def without_figures(page: str) -> str:
    """The page as it is after any run."""
    rows = re.sub(r"^(\| \[.+?\|.+?\|).*$", r"\1", page, flags=re.MULTILINE)
    artifacts = re.sub(r"^(\| `[\w-]+` \|).*$", r"\1", rows, flags=re.MULTILINE)
    return re.sub(r"^```text\n(\w+).*?^```$", r"\1", artifacts, flags=re.MULTILINE | re.DOTALL)


def drawing(which: str, found: Mapping[str, Any]) -> str:
    """Draw a job's diagnosis: what a batch takes to make and to compute, the two bounds, and a step."""
    bounds = found["bounds_ms"]
    measured = f"{found['verdict']}: computing for {found['device_use']:.0%} of it"
    lines = (
        ("t_input", found["input_ms"], ""),
        ("t_compute", found["compute_ms"], ""),
        ("in turns", bounds["sum"], "t_input + t_compute"),
        ("ahead", bounds["max"], "max(t_input, t_compute)"),
        ("measured", found["step_ms"], measured),
    )
    longest = max(ms for _, ms, _ in lines)
    bars = [
        f"{name:<10} {'█' * round(BAR * ms / longest)} {ms:.3g} ms {said}".rstrip()
        for name, ms, said in lines
    ]
    advice = textwrap.wrap(found["advice"][0], WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(["```text", which, *bars, "", *advice, "```"])


def _exports(artifacts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """List a version's artifacts against its 32-bit TensorFlow Lite file, which has the weights alone."""
    whole = next(each["bytes"] for each in artifacts if each["name"] == "tflite")
    yield "| artifact | bytes | of `tflite` | largest difference | 1 row | 64 rows | loads in |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for each in artifacts:
        one, many = (f"{each['latency_ms'][rows]['median']:.2g} ms" for rows in ("1", "64"))
        yield (
            f"| `{each['name']}` | {each['bytes']:,} | {each['bytes'] / whole:.2f} | "
            f"{each['difference']:.1e} | {one} | {many} | {each['load_ms']:.3g} ms |"
        )
    yield ""


def _section(topic: Topic, figures: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield f"## {topic.name}\n"
    for said in (f"**Taught:** {topic.taught}", f"**Here:** {topic.here}"):
        yield textwrap.fill(said, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
    if topic.examples:
        yield "| spec | trained by | parameters | epochs | loss | held out | training |"
        yield "|---|---|--:|--:|--:|---|--:|"
    for which in topic.examples:
        cells = [figures[which][column] for column in COLUMNS]
        spec = f"[{which}](../examples/{which}.json)"
        yield f"| {spec} | `{EXAMPLE_TEST}[{which}]` | {' | '.join(cells)} s |"
    if topic.examples:
        yield ""
    if topic.draws:
        yield from (drawing(which, json.loads(figures[which]["pipeline"])) + "\n" for which in topic.examples)
    if topic.exports:
        for which in topic.examples:
            yield from _exports(json.loads(figures[which]["exports"]))
    if topic.tests:
        yield "Also checked:\n"
        yield from (f"- `{MODULE}::{test}`" for test in topic.tests)
        yield ""
