"""The tables of the reference pages say what the code says, no more and no less."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from exporter.errors import ExportFailedError, ExportMismatchError
from service.app import create_app
from service.jobs import EventKind
from service.problems import TABLE
from service.settings import Settings
from serving.flags import Flags
from tests.docs.blocks import PAGES, ROOT
from trainer.callback import callbacks
from trainer.errors import Halted, TrainerError
from trainer.profile import AnomalyCode
from trainer.source import sources

DOCS = ROOT / "docs"
OPERATIONS, HTTP_API, SERVING, JOB_SPEC = (
    (DOCS / name).read_text() for name in ("operations.md", "http-api.md", "serving.md", "job-spec.md")
)


def first_cells(text: str, heading: str, level: str = "##") -> list[str]:
    """The first cells of the first table after a heading, its own head left out."""
    _, _, section = text.partition(f"\n{level} {heading}\n")
    assert section, heading
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table, heading
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in table[0].splitlines()[2:]]


def words(cells: list[str]) -> list[str]:
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def settings() -> dict[str, object]:
    return {f"FITSERVE_{name.upper()}": field.default for name, field in Settings.model_fields.items()}


def test_operations_lists_every_setting_in_order() -> None:
    assert words(first_cells(OPERATIONS, "Settings")) == list(settings())


@pytest.mark.parametrize(("name", "default"), settings().items())
def test_operations_tells_a_setting_s_default(name: str, default: object) -> None:
    row = next(line for line in OPERATIONS.splitlines() if line.startswith(f"| `{name}` |"))
    if isinstance(default, (int, float)) or (isinstance(default, str) and default):
        assert f"| `{default}` |" in row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_variable_that_a_page_names_is_read_somewhere(page) -> None:
    readers = ("client/fitserve/settings.py", "service/commands.py", "tests/serving/test_contract.py")
    others = "".join((ROOT / name).read_text() for name in readers)
    known = {*settings(), *re.findall(r"FITSERVE_[A-Z_]*[A-Z]", others)}
    named = set(re.findall(r"FITSERVE_[A-Z_]*[A-Z]", page.read_text()))
    assert named - known == set()


def test_the_api_page_lists_every_path_and_no_other() -> None:
    paths = create_app(Settings(home=ROOT / "nowhere")).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(words(first_cells(HTTP_API, "Paths"))) == there


def test_the_api_page_lists_every_problem_with_its_status() -> None:
    _, _, section = HTTP_API.partition("\n## Errors\n")
    told = {
        (int(status), code)
        for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section, re.MULTILINE)
    }
    framework = {(422, "invalid_request"), (500, "internal")}
    assert told == {(shape.status.value, shape.code) for shape in TABLE.values()} | framework


def test_the_api_page_lists_every_code_of_a_failed_job() -> None:
    told = words(first_cells(HTTP_API, "States of a job"))
    trainer = {kind.code for kind in below(TrainerError) if not issubclass(kind, Halted)}
    exporter = {ExportFailedError.code, ExportMismatchError.code}
    service = {"disk_full", "poisoned", "runtime_exceeded", "pending_exceeded"}
    assert set(told) == trainer | exporter | service


def test_the_api_page_lists_every_kind_of_event() -> None:
    assert words(first_cells(HTTP_API, "Events")) == [kind.value for kind in EventKind]


def test_the_serving_page_lists_every_flag_and_no_other() -> None:
    assert words(first_cells(SERVING, "Flags")) == [field.name for field in fields(Flags)]


def test_the_spec_page_names_every_source_callback_and_format() -> None:
    from exporter.format import formats

    for name in (*sources(), *callbacks(), *formats()):
        assert f"`{name}`" in JOB_SPEC or f"`{name}(" in JOB_SPEC, name


def test_the_spec_page_lists_every_anomaly() -> None:
    assert words(first_cells(JOB_SPEC, "What looks wrong", "####")) == [code.value for code in AnomalyCode]


def below(kind: type[TrainerError]) -> set[type[TrainerError]]:
    return {kind, *(each for sub in kind.__subclasses__() for each in below(sub))}
