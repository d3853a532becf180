"""The `fitserve` command.

Its own commands are this package's modules; an installed server adds up, demo and others through the
entry-point group `fitserve.commands`: each entry point is a Typer app whose commands join the top level.
The exit codes are in `exits`.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fitserve.cli import datasets, exits, jobs, models, output
from fitserve.errors import FitserveError

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS_GROUP = "fitserve.commands"


def main() -> None:
    """Run the command line and end the process with one of the codes of `exits.Exit`."""
    try:
        app()
    except FitserveError as error:
        output.complain(f"{error}")
        sys.exit(exits.of_error(error))


class _CommandsOfAll(TyperGroup):
    """Our commands at once; those of installed servers, which load slower, when asked for or listed."""

    _joined: Mapping[str, Any] | None = None  # of the click that Typer carries, which has no public name

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        return super().get_command(ctx, cmd_name) or self._others().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        own = super().list_commands(ctx)
        return [*own, *(name for name in self._others() if name not in own)]

    def _others(self) -> Mapping[str, Any]:
        if self._joined is None:
            self._joined = _joined_commands()
        return self._joined


def _joined_commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in metadata.entry_points(group=COMMANDS_GROUP):
        # Whatever breaks in another distribution, this one's commands must go on working.
        try:
            group = typer.main.get_group(entry.load())
        except Exception as error:
            output.complain(
                f"the commands of {entry.name!r} ({entry.value}) are missing: {type(error).__name__}: {error}"
            )
            continue
        found |= group.commands
    return found


def _show_version(wanted: bool) -> None:
    if wanted:
        output.say(metadata.version("fitserve"))
        raise typer.Exit


app = typer.Typer(
    cls=_CommandsOfAll,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From model.fit to TensorFlow Serving in one POST.",
)


@app.callback()
def _options(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The server; default: FITSERVE_URL, then what is running here.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - acts in its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = url


app.add_typer(jobs.app)
app.add_typer(models.app)
app.add_typer(datasets.app, name="datasets")
