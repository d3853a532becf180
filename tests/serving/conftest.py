"""SavedModels made once a session, in a process of their own, and servers started by their flags."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from service.ports import free_ports
from tests.serving.asking import Calls

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory) -> Path:
    """A folder with SavedModels of both makes, and what each answers by itself (see saved_models.py)."""
    folder = tmp_path_factory.mktemp("saved_models")
    subprocess.run(
        [sys.executable, "-m", "tests.serving.saved_models", folder],
        check=True,
        timeout=120,
        cwd=HERE.parents[1],
    )
    return folder


class ModelServer(Calls):
    """A running server and the two ways to ask it."""

    def __init__(self, process: subprocess.Popen, port: int, rest_port: int, log: Path):
        super().__init__(f"127.0.0.1:{port}")
        self.process, self.port, self.rest_port, self.log = process, port, rest_port, log

    def get(self, path, method="GET", body=None, headers=None):
        """Return status and JSON document, of errors too."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.rest_port}{path}", method=method, data=body, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def post(self, path, document):
        return self.get(path, "POST", json.dumps(document).encode(), {"content-type": "application/json"})

    def wait_until(self, condition, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def is_up(self):
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def family(self) -> set[int]:
        """Return the process ids of the server and all its descendants."""
        found, parents = {self.process.pid}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        grown = True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            found |= more
            grown = bool(more)
        return found

    def stop(self, number=signal.SIGTERM, timeout_s=15) -> float:
        """Ask the server to leave; return how long that took."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout_s)
        took_s = time.monotonic() - started
        self.channel.close()
        return took_s


def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """Start servers by their flags; those still running at the end are stopped."""
    started = []

    def start(*flags, chosen="grpcio", wait=True) -> ModelServer:
        port, rest_port = free_port(), free_port()
        log = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-m", "serving.server", f"--port={port}", f"--rest_api_port={rest_port}"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, f"--front={chosen}", *flags],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                start_new_session=True,
            )
        server = ModelServer(process, port, rest_port, log)
        started.append(server)
        if wait:
            server.wait_until(server.is_up, 60)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def place():
    """Publish a copy of a SavedModel as a version, at once, as the store does."""

    def place(saved_model: Path, version: Path) -> Path:
        staging = version.with_name(f".staging-{version.name}")
        version.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(saved_model, staging)
        return staging.rename(version)

    return place


@pytest.fixture(scope="module")
def undetermined():
    """Let random operations be: who trained in this process before had them all seeded."""
    from tensorflow.python.framework import config

    enabled = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if enabled:
        config.enable_op_determinism()
