"""The page of topics and the examples' list say what there is: no run is needed for that."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.data import WRITERS, file_of
from service.jobs import JobSpec
from tests.topics.classroom import uris_of
from tests.topics.page import COLUMNS, PAGE, drawing, figures_of, text_of, without_figures
from tests.topics.table import EXAMPLE_TEST, EXAMPLES, MODULE, TOPICS
from trainer.catalog import catalog
from trainer.diagnosis import Setup, Stage, diagnose
from trainer.loading import load
from trainer.source import DataFile

ROOT = Path(__file__).parents[2]
SPECS = sorted(path.stem for path in (ROOT / "examples").glob("*.json"))
KERAS_PAGE = (ROOT / "docs" / "keras.md").read_text()


def spec_of(which: str) -> dict[str, Any]:
    return json.loads((ROOT / "examples" / f"{which}.json").read_text())


def files_of(which: str) -> list[str]:
    """The files that an example's data sets are uploaded from, its own first."""
    return [file_of(uri) for uri in uris_of(spec_of(which)["data"])]


def measured(step_ms: float) -> dict[str, Any]:
    """A diagnosis of 12 ms to make a batch and 20 ms to compute with it."""
    return diagnose(step_ms, 20.0, [Stage("read", 12.0, 1)], Setup("memory", batch_size=32, augments=False))


def exported(which: str) -> list[str]:
    return [entry.name for entry in JobSpec.model_validate(spec_of(which)).export]


def artifact(name: str) -> dict[str, Any]:
    latency_ms = {"1": {"median": 1.0}, "64": {"median": 2.0}}
    return {"name": name, "bytes": 4, "difference": 1e-7, "latency_ms": latency_ms, "load_ms": 3.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


def test_the_page_is_that_of_the_table() -> None:
    figures = {
        **dict.fromkeys(COLUMNS, "?"),
        "pipeline": json.dumps(measured(step_ms=20.0)),
        "exports": json.dumps([artifact(name) for name in exported("saving")]),
    }
    expected = text_of(dict.fromkeys(EXAMPLES, figures))
    assert without_figures(PAGE.read_text()) == without_figures(expected), "run `make topics`"
    assert "?" not in re.findall(r"\| ([^|]+) ", PAGE.read_text())


def test_every_topic_is_there_once_with_examples_or_a_page() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(names) == len(set(names)) == 17
    assert [topic.name for topic in TOPICS if not topic.examples and ".md" not in topic.here] == []


def test_every_example_is_trained_by_a_topic() -> None:
    assert sorted(EXAMPLES) == SPECS


def test_every_test_named_is_there_and_the_other_way_round() -> None:
    functions = {
        node.name for node in ast.parse((ROOT / MODULE).read_text()).body if isinstance(node, ast.FunctionDef)
    }
    tests = {name for name in functions if name.startswith("test_")}
    assert {test for topic in TOPICS for test in topic.tests} | {EXAMPLE_TEST} == tests


def test_a_diagnosis_is_drawn_with_the_bounds_of_the_law() -> None:
    lines = drawing("dense", measured(step_ms=20.5)).splitlines()
    shown = {line[:10].strip(): (line.count("█"), line.partition("█ ")[2]) for line in lines if "█" in line}
    assert shown["t_input"] == (22, "12 ms")
    assert shown["t_compute"] == (38, "20 ms")
    assert shown["in turns"] == (60, "32 ms t_input + t_compute")
    assert shown["ahead"] == (38, "20 ms max(t_input, t_compute)")
    assert shown["measured"] == (38, "20.5 ms compute-bound: computing for 98% of it")
    assert "".join(lines[8:-1]).startswith("compute-bound: 12 ms to make a batch, 20 ms to compute with it")


def test_figures_are_read_from_a_report(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(
        '<testsuites><testsuite><testcase name="test_example[gru]"><properties>'
        '<property name="epochs" value="3"/></properties></testcase><testcase name="test_other"/>'
        "</testsuite></testsuites>"
    )
    assert figures_of(tmp_path / "report.xml") == {"gru": {"epochs": "3"}}


def test_a_run_without_an_example_writes_no_page() -> None:
    with pytest.raises(KeyError):
        text_of({})


@pytest.mark.parametrize("which", SPECS)
def test_an_example_is_a_spec_whose_data_is_written(which: str, data: Path) -> None:
    spec = JobSpec.model_validate(spec_of(which))
    assert spec.name == which.replace("_", "-")
    first, *others = (DataFile(data / name, data / ".converted") for name in files_of(which))
    further = dict(zip(spec.data.further, others, strict=True))
    splits = load(spec.data, replace(first, further=further), seed=7)
    assert splits.validation is not None


def test_the_list_of_examples_names_each_with_its_data_set() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.json\) \|.+\| `(.+)` \|$",
                        (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)  # fmt: skip
    assert sorted(listed) == [(which, which, "`, `".join(files_of(which))) for which in SPECS]


def test_every_data_set_is_used() -> None:
    assert {file for which in SPECS for file in files_of(which)} == WRITERS.keys()


def test_the_page_on_losses_names_what_keras_has() -> None:
    _, _, section = KERAS_PAGE.partition("\n## Output and loss\n")
    rows = [line.split("|")[2:4] for line in section.partition("\n## ")[0].splitlines() if "| `" in line]
    assert len(rows) >= 8
    known, aliases = catalog(), catalog().aliases["losses"]
    for layer, loss in rows:
        for activation in re.findall(r"`Dense\(.*?(\w+)\)`", layer):
            assert activation in known.activations or activation in "1n", activation
        for name in re.findall(r"`(\w+)(?:\(.*?\))?`", loss):
            assert name in aliases or name in known.names("losses"), name
