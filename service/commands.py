"""The server's commands of `fitserve`: they join the client's through the entry point `fitserve.commands`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from service.home_lock import HomeInUseError
from service.processes import Addresses, NoRedisError
from service.settings import Settings
from service.slots import SlotError, parse_slots
from service.up import Stack, StackError

app = typer.Typer(help="Commands of the server.")
console = Console(highlight=False)
CANT_START = (StackError, HomeInUseError, SlotError, NoRedisError)
WATCH_EVERY_S = 0.1
OWNER_ONLY = 0o077


@app.command()
def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder that holds everything.", show_default="~/.fitserve")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(envvar="FITSERVE_API_PORT", help="Port of the API.")] = 8000,
    grpc_port: Annotated[
        int, typer.Option(envvar="FITSERVE_GRPC_PORT", help="Port of serving, gRPC.")
    ] = 8500,
    rest_port: Annotated[
        int, typer.Option(envvar="FITSERVE_REST_PORT", help="Port of serving, REST.")
    ] = 8501,
) -> None:
    """Start the embedded stack and stay: API, worker, serving and a private Redis. Ctrl-C stops all of it."""
    os.umask(OWNER_ONLY)  # inherited by all that is started: data, models and logs are their owner's alone
    settings = Settings(home=home) if home else Settings()
    addresses = Addresses(host, api_port, grpc_port, rest_port)
    leaving = threading.Event()

    def leave(_signal: int, _frame: FrameType | None) -> None:
        leaving.set()

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, leave)
    stack = Stack(settings, addresses, lambda text: console.print(text, soft_wrap=True, markup=False))
    try:
        parse_slots(settings.slots)
        if stack.start(leaving):
            console.print(
                f"[bold]fitserve is up[/bold]: API {addresses.api} (docs at /docs), "
                f"gRPC {addresses.serving_grpc}, REST {addresses.serving_rest}; "
                f"token in {escape(str(settings.token_path))}",
                soft_wrap=True,
            )
        while not leaving.wait(WATCH_EVERY_S):
            stack.watch()
        console.print("stopping")
    except CANT_START as error:
        _refuse(error)
    finally:
        stack.stop()
    console.print("stopped")


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder with everything that was made.")
    ] = False,
) -> None:
    """Train, export, prove, publish and serve a small CNN on real data; exit 0 only if all of it held."""
    from service.demo import run_demo

    try:
        code = run_demo(console, keep=keep)
    except CANT_START as error:
        _refuse(error)
    raise typer.Exit(code)


def _refuse(error: Exception) -> NoReturn:
    console.print(f"[red]fitserve can't start:[/red] {escape(str(error))}", soft_wrap=True)
    raise typer.Exit(1) from error
