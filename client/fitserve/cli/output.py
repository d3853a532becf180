"""What the commands print: tables for people, one JSON document a line for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fitserve.results import Document, Job

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")]


def console() -> Console:
    """Return the console of the standard output."""
    from rich.console import Console

    return Console()


def document(raw: Document) -> None:
    """Print one JSON document on a line of its own."""
    typer.echo(json.dumps(raw, separators=(",", ":")))


def say(text: str) -> None:
    """Print a line."""
    typer.echo(text)


def complain(text: str) -> None:
    """Print a line to the standard error."""
    typer.echo(text, err=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; None is an empty cell, and a text is taken as it is."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        # The first column is what the next command wants: an id in two lines can't be copied.
        shown.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(shown)


def outcome(job: Job) -> None:
    """Print how a finished job ended: its artifacts, or what went wrong and the remedy; and its diagnosis."""
    _ending(job)
    if job.pipeline:
        say(f"data pipeline: {job.pipeline.get('verdict', 'no verdict')}")
        for advice in job.pipeline.get("advice") or ():
            say(f"  {advice}")


def _ending(job: Job) -> None:
    if job.error is not None:
        remedy = f"\n  {job.error.remedy}" if job.error.remedy else ""
        complain(f"job {job.id} {job.status}: {job.error.code}: {job.error.detail}{remedy}")
        return
    if job.result is None or job.result.version is None:
        say(f"job {job.id} {job.status}")
        return
    say(f"job {job.id} {job.status}: {job.result.model} version {job.result.version}")
    if job.result.artifacts:
        table(
            ("artifact", "format", "size", "max difference", "ms, 1 row"),
            [
                (
                    each.name,
                    each.format,
                    size(each.size_bytes),
                    None if each.max_abs_diff is None else f"{each.max_abs_diff:.2g}",
                    f"{each.latency_ms[1]:.3g}" if 1 in each.latency_ms else None,
                )
                for each in job.result.artifacts
            ],
        )


def size(size_bytes: int | None) -> str | None:
    """Return bytes as people read them."""
    if size_bytes is None:
        return None
    value = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
