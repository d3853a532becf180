"""Where the servers are and what opens them: arguments, then environment, then the server's own folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fitserve.errors import SettingsError

DEFAULT_API = "http://127.0.0.1:8000"
DEFAULT_SERVING_GRPC = "127.0.0.1:8500"


@dataclass(frozen=True)
class Settings:
    """What a client needs to know before its first call."""

    api: str
    serving_grpc: str
    token: str | None


def load(
    url: str | None = None,
    token: str | None = None,
    serving_grpc: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Find the addresses and the token.

    The first that is there wins: the argument; FITSERVE_URL, FITSERVE_SERVING_GRPC, FITSERVE_TOKEN,
    FITSERVE_TOKEN_FILE; `run/endpoints.json` and the token file under FITSERVE_HOME (default `~/.fitserve`);
    the ports of this machine that `fitserve up` takes by default.

    Raises:
        SettingsError: FITSERVE_TOKEN_FILE names no readable file, or endpoints.json is no JSON object.
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("FITSERVE_HOME") or "~/.fitserve").expanduser()
    endpoints = _endpoints(home / "run" / "endpoints.json")
    api = (url or env.get("FITSERVE_URL") or endpoints.get("api") or DEFAULT_API).rstrip("/")
    if urlsplit(api).scheme not in {"http", "https"}:
        raise SettingsError(f"the server's URL must begin with http:// or https://. Received: {api!r}")
    return Settings(
        api=api,
        serving_grpc=(
            serving_grpc
            or env.get("FITSERVE_SERVING_GRPC")
            or endpoints.get("serving_grpc")
            or DEFAULT_SERVING_GRPC
        ),
        token=token or env.get("FITSERVE_TOKEN") or _token_from_file(api, env, home, endpoints),
    )


def is_loopback(host: str | None) -> bool:
    """Tell whether a host name is this machine's own loopback, which no proxy can reach for us."""
    return host is not None and (host in {"localhost", "::1"} or host.startswith("127."))


def _endpoints(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path} must hold a JSON object. Received: {type(found).__name__}")
    return {str(name): str(value) for name, value in found.items()}


def _token_from_file(
    api: str, env: Mapping[str, str], home: Path, endpoints: Mapping[str, str]
) -> str | None:
    if named := env.get("FITSERVE_TOKEN_FILE"):
        return _read_token(Path(named))
    # The token under FITSERVE_HOME opens the server of that home; another host has no business seeing it.
    if api != endpoints.get("api") and not is_loopback(urlsplit(api).hostname):
        return None
    path = Path(endpoints.get("token_file") or home / "token")
    return _read_token(path) if path.is_file() else None


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token file {path} can't be read: {error}") from error
