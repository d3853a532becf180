"""A stack of a benchmark's own, and what is asked of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from fitserve import Client
from service.settings import Settings
from service.up import Stack, free_addresses


@contextmanager
def running(**settings: Any) -> Iterator[tuple[Stack, Path]]:
    """A whole stack on free ports, in a temporary folder that is given as well."""
    with tempfile.TemporaryDirectory(prefix="fitserve-benchmark-") as name:
        folder = Path(name)
        stack = Stack(Settings(home=folder / "home", **settings), free_addresses(), lambda _text: None)
        try:
            stack.start()
            yield stack, folder
        finally:
            stack.stop()


def client_of(stack: Stack) -> Client:
    """A client with the stack's token."""
    return Client(stack.addresses.api, stack.settings.token_path.read_text().strip())


def events_of(stack: Stack, job_id: str) -> list[dict[str, Any]]:
    """Every event of the job, from the pages of the API, which carry the times."""
    headers = {"Authorization": f"Bearer {stack.settings.token_path.read_text().strip()}"}
    found: list[dict[str, Any]] = []
    after: str | None = "0"
    with httpx.Client(trust_env=False, headers=headers) as http:
        while after is not None:
            url = f"{stack.addresses.api}/v1/jobs/{job_id}/events"
            page = http.get(url, params={"after": after, "limit": 100}).raise_for_status().json()
            found += page["data"]
            after = page["next"]
    return found
