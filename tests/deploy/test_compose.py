"""docker-compose.yml says the same as the process table, and opens nothing that has no lock."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath

import pytest

from service.processes import Addresses, process_table, redis_flags, serving_flags
from service.settings import Settings
from tests.deploy.conftest import ROOT

COMPOSE_FILES = [
    "docker-compose.yml",
    "deploy/gpu.compose.yml",
    "deploy/tpu.compose.yml",
    "deploy/data.compose.yml",
]
OURS = ["init", "api", "worker"]
INSIDE = PurePosixPath("/var/lib/fitserve")


def _settings(compose) -> Settings:
    """The settings of a container: what docker-compose.yml fixes, and the defaults."""
    fixed = {name: value for name, value in compose["x-settings"].items() if value is not None}
    return Settings(**{name.removeprefix("FITSERVE_").lower(): value for name, value in fixed.items()})


def _table(compose):
    addresses = Addresses(host="0.0.0.0")
    return {line.name: line for line in process_table(_settings(compose), addresses, python="python")}


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_a_compose_file_fits_the_compose_specification(root, file):
    checker = Path(sys.executable).with_name("check-jsonschema")

    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", root / file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_started_as_fitserve_up_starts_them(compose, name):
    assert compose["services"][name]["command"] == list(_table(compose)[name].command)


def test_every_process_of_the_table_has_its_service(compose):
    assert set(_table(compose)) <= set(compose["services"])


def test_a_service_waits_for_what_its_process_waits_for(compose):
    table = _table(compose)
    for name, line in table.items():
        for earlier in line.after:
            condition = compose["services"][name]["depends_on"][earlier]["condition"]
            assert table[earlier].runs_to_end
            assert condition == "service_completed_successfully"


def test_tensorflow_serving_gets_the_flags_of_the_embedded_server(compose):
    settings = _settings(compose)
    serving = compose["services"]["serving"]

    assert serving["command"] == list(serving_flags(settings.store_root, 8500, 8501))
    assert settings.serving_grpc == "serving:8500"
    assert settings.serving_rest == "http://serving:8501"


def test_redis_keeps_nothing_on_disk(compose):
    program, config, *flags = compose["services"]["redis"]["command"]

    assert program == "redis-server"
    assert tuple(flags) == redis_flags()
    assert config == compose["services"]["redis"]["configs"][0]["target"]


def test_api_worker_and_init_get_the_same_settings(compose):
    environments = [compose["services"][name]["environment"] for name in OURS]

    assert environments[0] == environments[1] == environments[2]


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_every_fitserve_variable_is_a_setting(root, file):
    settings = {f"FITSERVE_{name.upper()}" for name in Settings.model_fields}

    assert set(re.findall(r"FITSERVE_\w+", (root / file).read_text())) <= settings


def test_every_setting_reaches_the_containers(compose):
    assert {f"FITSERVE_{name.upper()}" for name in Settings.model_fields} == set(compose["x-settings"])


def test_the_store_is_at_one_path_for_all_and_read_only_for_serving(compose):
    store = str(_settings(compose).store_root)
    for name in OURS:
        assert f"store:{store}" in compose["services"][name]["volumes"]

    (mount,) = compose["services"]["serving"]["volumes"]

    assert (mount["source"], mount["target"]) == ("store", store)
    assert mount["read_only"] is True


def test_every_folder_of_the_settings_is_a_volume(compose):
    settings = _settings(compose)
    folders = [settings.home, settings.store_root, settings.data_root, settings.token_path.parent]
    for name in ("init", "api"):
        mounted = [each.split(":")[1] for each in compose["services"][name]["volumes"]]
        assert {str(folder) for folder in folders} == set(mounted)


def test_a_worker_has_no_token(compose):
    volumes = compose["services"]["worker"]["volumes"]
    mounted = [each.split(":")[1] if isinstance(each, str) else each["target"] for each in volumes]

    assert str(_settings(compose).token_path.parent) not in mounted


def test_only_the_api_and_serving_publish_ports_and_only_on_loopback(compose):
    published = {
        name: [port.rsplit(":", 1) for port in service["ports"]]
        for name, service in compose["services"].items()
        if "ports" in service
    }

    assert set(published) == {"api", "serving"}
    for ports in published.values():
        for place, inside in ports:
            default = re.fullmatch(r"\$\{PUBLISH_\w+:-(127\.0\.0\.1):(\d+)\}", place)
            assert default, place
            assert default[2] == inside


def test_database_and_broker_are_in_a_network_without_a_way_out(compose):
    networks = {name: service["networks"] for name, service in compose["services"].items()}

    assert networks["postgres"] == networks["redis"] == networks["worker"] == ["records"]
    assert compose["networks"]["records"]["internal"] is True
    assert "records" not in networks["serving"]


def test_no_password_stands_in_the_file(compose):
    services, settings = compose["services"], compose["x-settings"]
    shown = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", r"<\1>", text)
        for name, text in {
            "database": settings["FITSERVE_DATABASE_URL"],
            "broker": settings["FITSERVE_BROKER_URL"],
            "postgres": services["postgres"]["environment"]["POSTGRES_PASSWORD"],
            "redis-cli": services["redis"]["environment"]["REDISCLI_AUTH"],
            "redis": compose["configs"]["redis"]["content"],
        }.items()
    }

    assert shown == {
        "database": "postgresql+psycopg://fitserve:<POSTGRES_PASSWORD>@postgres:5432/fitserve",
        "broker": "redis://:<REDIS_PASSWORD>@redis:6379/0",
        "postgres": "<POSTGRES_PASSWORD>",
        "redis-cli": "<REDIS_PASSWORD>",
        "redis": "requirepass <REDIS_PASSWORD>\n",
    }


def test_an_unset_password_stops_docker_compose(compose):
    settings = compose["x-settings"]

    assert "${POSTGRES_PASSWORD:?" in settings["FITSERVE_DATABASE_URL"]
    assert "${REDIS_PASSWORD:?" in settings["FITSERVE_BROKER_URL"]


def test_a_worker_has_time_to_put_its_jobs_back(compose):
    default = re.fullmatch(
        r"\$\{WORKER_STOP_GRACE:-(\d+)s\}", compose["services"]["worker"]["stop_grace_period"]
    )

    assert default
    # A thread is waited for three seconds longer than its child; as much again for Celery and the records.
    assert int(default[1]) >= _settings(compose).grace_s + 2 * 3


def test_what_lives_on_is_started_again_and_what_must_answer_is_asked(compose):
    services = compose["services"]

    assert services["init"]["restart"] == "no"
    assert {service["restart"] for name, service in services.items() if name != "init"} == {"unless-stopped"}
    assert {name for name, service in services.items() if "healthcheck" in service} == {
        "api",
        "serving",
        "redis",
        "postgres",
    }


def test_every_image_from_elsewhere_names_its_version(compose):
    for service in compose["services"].values():
        if "build" not in service:
            assert re.search(r":\d", service["image"]), service["image"]


def test_the_model_server_is_of_the_release_that_models_are_trained_with(root, compose):
    locked = re.search(r"^tensorflow==(\S+)", (root / "deploy/locks/worker.txt").read_text(), re.MULTILINE)

    assert locked
    assert compose["services"]["serving"]["image"] == f"tensorflow/serving:{locked[1]}"
    assert f"image: tensorflow/serving:{locked[1]}-gpu" in (root / "deploy/gpu.compose.yml").read_text()


class _Answering(http.server.BaseHTTPRequestHandler):
    """Says 200 to the API's readiness and 404 to everything else, as TensorFlow Serving does to `/`."""

    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *args):
        """Nobody reads it."""


@pytest.fixture
def answering_port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def _health(compose, name, port) -> int:
    """How the health check ends when the service's port is this one."""
    kind, *command = compose["services"][name]["healthcheck"]["test"]
    assert kind == "CMD"
    told = [word.replace("$$", "$").replace("8000", f"{port}").replace("8501", f"{port}") for word in command]
    if told[0] == "python":
        told[0] = sys.executable
    return subprocess.run(told, capture_output=True, timeout=20, cwd=ROOT, check=False).returncode


@pytest.mark.parametrize("name", ["api", "serving"])
def test_a_health_check_passes_when_the_server_answers(compose, answering_port, name):
    assert _health(compose, name, answering_port) == 0


@pytest.mark.parametrize("name", ["api", "serving"])
def test_a_health_check_fails_when_nobody_listens(compose, name):
    assert _health(compose, name, 1) != 0  # tcpmux: nobody serves it


def test_the_apis_health_check_fails_when_it_is_not_ready(compose, answering_port, monkeypatch):
    monkeypatch.setattr(
        _Answering, "do_GET", lambda self: (self.send_response(503), self.end_headers()), raising=True
    )

    assert _health(compose, "api", answering_port) != 0
