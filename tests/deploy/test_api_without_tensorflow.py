"""The API and the client as their image has them: the locked packages, our wheels, and no TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.ports import free_ports
from tests.deploy.conftest import ROOT

LOCKS = ROOT / "deploy" / "locks"
UV = Path(sys.executable).with_name("uv")


def _run(*command: str | Path, **environment: str) -> str:
    """Run to the end, outside the repository, and return what it printed."""
    done = subprocess.run(
        command,
        cwd="/",
        env={**_clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FITSERVE_", "PYTHON")) and name != "VIRTUAL_ENV"
    }


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory) -> Path:
    """The programs of a new environment, made as deploy/api.Dockerfile makes the image's."""
    wheels, venv = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("api") / "venv"
    for source in (ROOT, ROOT / "client"):
        constraints = ("--require-hashes", "--build-constraints", LOCKS / "dev.txt")
        _run(UV, "build", "--quiet", "--wheel", *constraints, "--out-dir", wheels, source)
    _run(UV, "venv", "--quiet", "--python", sys.executable, venv)
    for asked in (["--require-hashes", "-r", LOCKS / "api.txt"], ["--no-index", *wheels.glob("*.whl")]):
        _run(UV, "pip", "install", "--quiet", "--no-deps", *asked, VIRTUAL_ENV=str(venv))
    return venv / "bin"


@dataclass
class RunningApi:
    """The environment's API on a free port, with SQLite, and without a broker, a worker or a model server."""

    process: subprocess.Popen[bytes]
    url: str
    home: Path
    log: Path

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=20) in {0, -signal.SIGTERM}, self.log.read_text()

    def wait_until(self, condition, within_s=30.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def _serving(bin_folder: Path, home: Path) -> Iterator[RunningApi]:
    log = home / "api.log"
    _run(bin_folder / "python", "-m", "service.init", FITSERVE_HOME=str(home))
    (port,) = free_ports(1)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [bin_folder / "python", "-m", "service.api", "--port", str(port)],
            cwd="/",
            env={
                **_clean_environment(),
                "FITSERVE_HOME": str(home),
                # Nobody listens there: TCP port 1 is tcpmux's.
                "FITSERVE_BROKER_URL": "redis://127.0.0.1:1/0",
                "FITSERVE_SERVING_GRPC": "127.0.0.1:1",
                "FITSERVE_SERVING_REST": "http://127.0.0.1:1",
            },
            stdout=file,
            stderr=file,
        )
    running = RunningApi(process, f"http://127.0.0.1:{port}", home, log)
    try:
        running.wait_until(running.is_ready)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def api(bin_folder, tmp_path_factory) -> Iterator[RunningApi]:
    """One for all tests that leave it as they found it."""
    with _serving(bin_folder, tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def own_api(bin_folder, tmp_path) -> Iterator[RunningApi]:
    """One that the test may stop."""
    with _serving(bin_folder, tmp_path) as running:
        yield running


def test_the_environment_has_no_tensorflow_and_no_keras(bin_folder):
    code = (
        "import importlib.util as u, json;"
        "print(json.dumps([n for n in ('tensorflow', 'keras', 'tensorflow_serving') if u.find_spec(n)]))"
    )

    assert json.loads(_run(bin_folder / "python", "-c", code)) == []


def test_the_api_takes_jobs_though_only_its_database_is_there(api):
    answer = httpx.get(f"{api.url}/readyz", timeout=10, trust_env=False)

    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "database": "ok",
        "broker": "unavailable",
        "serving": "unavailable",
        "workers": 0,
    }


def test_a_wrong_spec_is_refused_at_its_places(api):
    spec = json.loads((ROOT / "examples" / "digits.json").read_text())
    spec["model"]["layers"][0]["class_name"] = "Dens"
    spec["compile"]["optimizer"] = "adamm"

    with api.client() as client:
        answer = client.post("/v1/jobs", json=spec)

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert {"/compile/optimizer", "/data/uri"} <= pointers
    assert any(pointer.startswith("/model/layers/0") for pointer in pointers)


def test_an_upload_is_kept_and_waits_for_a_worker(own_api):
    answers = []
    with own_api.client() as client:

        def upload() -> None:
            file = {"file": ("tiny.csv", b"a,b\n1,2\n3,4\n", "text/csv")}
            answers.append(client.post("/v1/datasets", files=file, data={"name": "tiny"}))

        uploading = threading.Thread(target=upload)
        uploading.start()
        own_api.wait_until(lambda: client.get("/v1/datasets").json()["data"])
        own_api.stop()  # it would wait half a minute for a worker, but not when it is told to stop
        uploading.join()

    (answer,) = answers
    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"
    kept = [path.name for path in (own_api.home / "data").glob("*/*")]
    assert kept == [answer.json()["digest"].removeprefix("sha256:")]


def test_the_client_of_the_same_environment_lists_jobs(api, bin_folder):
    code = (
        "import sys; from fitserve import Client, Predictor;"
        "jobs = list(Client().jobs());"
        "print(len(jobs), [name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    where = {"FITSERVE_URL": api.url, "FITSERVE_TOKEN_FILE": str(api.home / "token")}

    assert _run(bin_folder / "python", "-c", code, **where) == "0 []\n"
    assert _run(bin_folder / "fitserve", "jobs", "--json", **where) == ""
