"""The client of a command, by the options that all commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fitserve.client import Client


def connect(ctx: typer.Context) -> Client:
    """Return a client for `--url`, or for what the settings say."""
    from fitserve.client import Client  # httpx takes 0.2 s, which --help need not wait for

    url: str | None = ctx.obj
    return Client(url)
