"""datasets upload, datasets add, datasets list, datasets delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fitserve.cli import exits, output
from fitserve.cli.connection import connect
from fitserve.cli.output import AsJson
from fitserve.results import Dataset, Document

app = typer.Typer(help="Upload, name, list and delete data sets.", no_args_is_help=True)


@app.command()
def upload(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file.")],
    name: Annotated[str | None, typer.Option(help="A unique name, for dataset://NAME in specs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and wait until the server has read it."""
    with connect(ctx) as client:
        _tell(client.upload(path, name), as_json)


@app.command()
def add(
    ctx: typer.Context,
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="file:///..., http(s)://..., s3://... or gs://...")
    ],
    name: Annotated[str | None, typer.Option(help="A unique name, for dataset://NAME in specs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Have the server fetch data from where its operator allows it, and wait until it has read them."""
    with connect(ctx) as client:
        _tell(client.upload(uri=uri, name=name), as_json)


@app.command()
def delete(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The data set's id or name.")],  # noqa: A002
) -> None:
    """Delete a data set that no waiting or running job uses."""
    with connect(ctx) as client:
        client.delete_dataset(id)
    output.say(f"data set {id} deleted")


@app.command(name="list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets."""
    with connect(ctx) as client:
        found = list(client.datasets())
    if as_json:
        for dataset in found:
            output.document(dataset.raw)
        return
    output.table(
        ("id", "name", "kind", "rows", "size", "status"),
        [
            (
                each.id,
                each.name,
                each.kind,
                (each.schema or {}).get("rows"),
                output.size(each.size_bytes),
                each.status,
            )
            for each in found
        ],
    )


def _tell(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        output.document(dataset.raw)
    elif dataset.status == "ready":
        output.say(f"data set {dataset.id} ready: dataset://{dataset.name or dataset.id}")
        for anomaly in dataset.anomalies:
            output.say(f"  {_sentence(anomaly)}")
    else:
        detail = (dataset.error or {}).get("detail", "no reason was told")
        output.complain(f"data set {dataset.id} {dataset.status}: {detail}")
    if dataset.status != "ready":
        raise typer.Exit(exits.Exit.JOB_FAILED)


def _sentence(anomaly: Document) -> str:
    places = [f"{name} {anomaly[name]}" for name in ("column", "row") if anomaly.get(name) is not None]
    return ": ".join(part for part in (", ".join(places), str(anomaly.get("detail", ""))) if part)
