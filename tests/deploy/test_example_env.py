"""deploy/example.env knows every setting with its default, and every variable the compose files ask for."""

from __future__ import annotations

import re

import pytest

from service.settings import Settings
from tests.deploy.conftest import ROOT

LINES = (ROOT / "deploy/example.env").read_text().splitlines()
VARIABLES = {
    match[2]: match[3] for line in LINES if (match := re.fullmatch(r"(#?)([A-Z][A-Z_]+)=(.*)", line))
}


def test_it_has_every_setting_and_no_other():
    listed = {name for name in VARIABLES if name.startswith("FITSERVE_")}

    assert listed == {f"FITSERVE_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_default_is_the_settings_own(name):
    shown = VARIABLES[f"FITSERVE_{name.upper()}"]
    default = Settings.model_fields[name].get_default(call_default_factory=True)

    if name == "home":
        assert shown == "~/.fitserve"
        assert default.name == ".fitserve"
    else:
        assert shown == ("" if default is None else str(default))


def test_every_line_is_told_by_one_sentence_above_it():
    for above, line in zip(["", *LINES], LINES, strict=False):
        if re.match(r"#?[A-Z][A-Z_]+=", line):
            assert re.fullmatch(r"# .*\.", above), line


def test_it_sets_nothing_and_holds_no_secret():
    given = {line for line in LINES if line and not line.startswith("#")}

    assert given == {"POSTGRES_PASSWORD=", "REDIS_PASSWORD="}


def test_it_has_every_variable_that_the_compose_files_ask_for():
    files = [ROOT / "docker-compose.yml", *(ROOT / "deploy").glob("*.compose.yml")]
    asked = {name for file in files for name in re.findall(r"(?<!\$)\$\{(\w+)", file.read_text())}

    assert asked <= set(VARIABLES)


def test_the_defaults_of_the_compose_file_are_those_told():
    text = (ROOT / "docker-compose.yml").read_text()
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
        assert VARIABLES[name] == default


def test_docker_alone_reads_what_is_no_setting(compose):
    own = {name for name in VARIABLES if not name.startswith("FITSERVE_")}
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))

    assert own == asked
