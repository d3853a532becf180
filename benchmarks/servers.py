"""The servers of `benchmarks.serving`, each started on a free port of this machine.

A rival has an environment of its own under the cache folder, made once from `benchmarks/rivals/NAME.txt`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.wires import V2, Case, Json, TensorFlowServing, Wire
from service.ports import LOOPBACK, free_ports

UP_WITHIN_S = 60.0
RIVALS = Path(__file__).parent / "rivals"
CACHE = Path.home() / ".cache" / "fitserve-benchmarks"
MOST_IN_BATCH, BATCH_WAIT_S = 32, 0.001


class NotHere(Exception):
    """A rival can't be installed or started on this machine; the text says why."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    wire: Wire

    @property
    def url(self) -> str:
        """Where h2load sends its requests."""
        return f"http://{LOOPBACK}:{self.port}{self.wire.path}"

    def ask(self, case: Case, rows: int) -> bytes:
        """Return the reply to one request."""
        body = self.wire.body(case, rows)
        if not self.wire.grpc:
            request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as reply:
                return bytes(reply.read())
        with grpc.insecure_channel(f"{LOOPBACK}:{self.port}") as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.wire.path)
            return call(body, timeout=10, wait_for_ready=True)


@dataclass
class Servers:
    """Starts servers, and stops them all at the end."""

    folder: Path
    cache: Path
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ours(self, front: str) -> Server:
        """Our model server, with the models of the folder and no other flags."""
        config = self.folder / "models.config"
        models = sorted(path.parent.name for path in self.folder.glob("*/1"))
        each = (
            f'config {{ name: "{model}" base_path: "{self.folder / model}" model_platform: "tensorflow" }}'
            for model in models
        )
        config.write_text(f"model_config_list {{ {' '.join(each)} }}")
        (port,) = free_ports(1)
        flags = [f"--port={port}", f"--front={front}", f"--model_config_file={config}"]
        return self._started(
            front, [sys.executable, "-m", "serving.server", *flags], port, TensorFlowServing()
        )

    def echo(self, replies: Mapping[int, bytes]) -> Server:
        """`benchmarks.grpcio_echo`, with a ready-made reply for each size of a request."""
        file = self.folder / "replies.json"
        file.write_text(json.dumps({size: base64.b64encode(each).decode() for size, each in replies.items()}))
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "benchmarks.grpcio_echo", str(port), str(file)]
        return self._started("echo", command, port, TensorFlowServing())

    def mlserver(self, case: Case) -> Server:
        """MLServer's gRPC, in one process, with its adaptive batching."""
        http, port, metrics = free_ports(3)
        settings = self.folder / "mlserver"
        settings.mkdir(exist_ok=True)
        server: dict[str, object] = {
            "host": LOOPBACK,
            "http_port": http,
            "grpc_port": port,
            "metrics_port": metrics,
        }
        server |= {"parallel_workers": 0, "debug": False}
        (settings / "settings.json").write_text(json.dumps(server))
        model: dict[str, object] = {"name": case.model, "implementation": "mlserver_model.Onnx"}
        model |= {"parameters": {"uri": str(self._onnx(case))}}
        model |= {"max_batch_size": MOST_IN_BATCH, "max_batch_time": BATCH_WAIT_S}
        (settings / "model-settings.json").write_text(json.dumps(model))
        command = [str(self._bin("mlserver") / "mlserver"), "start", str(settings)]
        return self._started("mlserver", command, port, V2(), PYTHONPATH=str(RIVALS))

    def litserve(self, case: Case) -> Server:
        """LitServe: one API process and one worker, which it always has apart."""
        (port,) = free_ports(1)
        program = [str(self._bin("litserve") / "python"), str(RIVALS / "litserve_server.py")]
        return self._started(
            "litserve", [*program, str(self._onnx(case)), str(port)], port, Json(bare_row=True)
        )

    def bentoml(self, case: Case) -> Server:
        """BentoML with one worker."""
        (port,) = free_ports(1)
        command = [str(self._bin("bentoml") / "bentoml"), "serve", "bentoml_service:Onnx"]
        command += ["--host", LOOPBACK, "--port", str(port), "--working-dir", str(RIVALS)]
        environment = {"BENTOML_DO_NOT_TRACK": "True", "BENCHMARK_ONNX": str(self._onnx(case))}
        return self._started("bentoml", command, port, Json(bare_row=False), **environment)

    def _onnx(self, case: Case) -> Path:
        return self.folder / f"{case.model}.onnx"

    def _bin(self, name: str) -> Path:
        """Make the rival's environment, if it isn't there as its file asks for it."""
        pins, home = RIVALS / f"{name}.txt", self.cache / name
        done = home / "installed.txt"
        if not (done.is_file() and done.read_text() == pins.read_text()):
            uv = Path(sys.executable).with_name("uv")
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, home],
                [uv, "pip", "install", "--quiet", "--python", home / "bin" / "python", "-r", pins],
            ):
                ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
                if ran.returncode:
                    raise NotHere(f"{name} can't be installed: {ran.stderr.strip()[-300:]}")
            done.write_text(pins.read_text())
        return home / "bin"

    def _started(self, name: str, command: list[str], port: int, wire: Wire, **environment: str) -> Server:
        log = self.folder / f"{name}.log"
        here = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        here |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with log.open("wb") as file:
            # A group of its own: some leave children behind.
            process = subprocess.Popen(
                command, env=here | environment, stdout=file, stderr=file, start_new_session=True
            )
        self._stack.callback(_stop, process)
        return Server(name, port, wire)

    def wait(self, server: Server, case: Case) -> None:
        """Wait until a server answers, and answers rightly.

        Raises:
            NotHere: it doesn't within a minute.
        """
        deadline = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                reply = server.ask(case, 1)
                break
            except (OSError, grpc.RpcError) as error:
                if time.monotonic() > deadline:
                    log = (self.folder / f"{server.name}.log").read_text()[-500:]
                    raise NotHere(f"{server.name} doesn't answer: {error}; its log ends: {log}") from error
                time.sleep(0.2)
        server.wire.check(case, 1, reply)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(8)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
