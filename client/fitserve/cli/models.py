"""models, predict, download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fitserve.cli import output
from fitserve.cli.connection import connect
from fitserve.cli.output import AsJson
from fitserve.cli.specs import parse_instances, read_instances
from fitserve.errors import InvalidInputError

app = typer.Typer()

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]


@app.command()
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the models that have a published version."""
    with connect(ctx) as client:
        found = list(client.models())
    if as_json:
        for model in found:
            output.document(model.raw)
        return
    output.table(
        ("model", "latest", "versions"),
        [(model.name, model.latest, ", ".join(map(str, model.versions))) for model in found],
    )


@app.command()
def predict(
    ctx: typer.Context,
    model: ModelName,
    instances: Annotated[str | None, typer.Option(help="Rows as JSON: [[0.1, 0.2], [0.3, 0.4]].")] = None,
    file: Annotated[Path | None, typer.Option(help="Rows from a .json, .npy or .csv file.")] = None,
    version: Annotated[int | None, typer.Option(help="This version, not the latest.")] = None,
    label: Annotated[str | None, typer.Option(help="The version behind this label.")] = None,
    signature: Annotated[str | None, typer.Option(help="Another signature than serving_default.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Ask a served model; prints a line a row."""
    if (instances is None) == (file is None):
        raise InvalidInputError("give either --instances or --file")
    rows = parse_instances(instances) if instances is not None else read_instances(file or Path())
    with connect(ctx) as client:
        predictions = client.predict(
            model, rows, version=version, label=label, signature=signature, timeout_s=timeout
        )
    if as_json:
        output.document({"predictions": predictions})
        return
    for prediction in predictions:
        output.say(json.dumps(prediction))


@app.command()
def download(
    ctx: typer.Context,
    model: ModelName,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.")],
    artifact: Annotated[str, typer.Argument(metavar="ARTIFACT", help="The artifact's name, like tflite.")],
    to: Annotated[Path, typer.Option(help="A file, or a folder to put it in.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Fetch an artifact and check its digest."""
    with connect(ctx) as client:
        path = client.download(model, version, artifact, to)
    if as_json:
        output.document({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        output.say(str(path))
