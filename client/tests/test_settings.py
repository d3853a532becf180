from __future__ import annotations

import json

import pytest

from fitserve import SettingsError, settings


@pytest.fixture
def home(tmp_path):
    """A home in which `fitserve up` has written down its endpoints and its token."""
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("of the home\n")
    endpoints = {
        "api": "http://127.0.0.1:9000",
        "serving_grpc": "127.0.0.1:9500",
        "serving_rest": "http://127.0.0.1:9501",
        "token_file": str(tmp_path / "secret"),
    }
    (tmp_path / "run" / "endpoints.json").write_text(json.dumps(endpoints))
    return tmp_path


def test_without_anything_it_is_the_default_ports_of_this_machine(tmp_path):
    found = settings.load(environ={"FITSERVE_HOME": str(tmp_path)})
    assert found == settings.Settings("http://127.0.0.1:8000", "127.0.0.1:8500", None)


def test_what_the_server_wrote_down_is_found(home):
    found = settings.load(environ={"FITSERVE_HOME": str(home)})
    assert found == settings.Settings("http://127.0.0.1:9000", "127.0.0.1:9500", "of the home")


def test_the_environment_wins_over_the_home_and_arguments_win_over_both(home):
    environ = {
        "FITSERVE_HOME": str(home),
        "FITSERVE_URL": "https://fitserve.example/",
        "FITSERVE_SERVING_GRPC": "serving:8500",
        "FITSERVE_TOKEN": "of the environment",
    }
    assert settings.load(environ=environ) == settings.Settings(
        "https://fitserve.example", "serving:8500", "of the environment"
    )
    assert settings.load("http://here", "given", "there:1", environ) == settings.Settings(
        "http://here", "there:1", "given"
    )


def test_a_named_token_file_is_read(tmp_path):
    (tmp_path / "t").write_text(" abc \n")
    environ = {"FITSERVE_HOME": str(tmp_path), "FITSERVE_TOKEN_FILE": str(tmp_path / "t")}
    assert settings.load(environ=environ).token == "abc"


def test_the_token_of_the_home_is_not_shown_to_another_host(home):
    environ = {"FITSERVE_HOME": str(home)}
    assert settings.load("https://elsewhere.example", environ=environ).token is None
    assert settings.load("http://localhost:1234", environ=environ).token == "of the home"


@pytest.mark.parametrize(
    "environ",
    [{"FITSERVE_TOKEN_FILE": "/no/such/file"}, {"FITSERVE_URL": "127.0.0.1:8000"}],
)
def test_settings_that_cannot_be_right_are_told(environ, tmp_path):
    with pytest.raises(SettingsError):
        settings.load(environ={"FITSERVE_HOME": str(tmp_path)} | environ)


def test_endpoints_that_are_no_json_are_told_with_their_path(home):
    (home / "run" / "endpoints.json").write_text("{")
    with pytest.raises(SettingsError, match=r"endpoints\.json"):
        settings.load(environ={"FITSERVE_HOME": str(home)})
