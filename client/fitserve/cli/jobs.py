"""submit, jobs, watch, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fitserve.cli import exits, output
from fitserve.cli.connection import connect
from fitserve.cli.output import AsJson
from fitserve.cli.specs import read_spec, with_values
from fitserve.progress import watch_job

if TYPE_CHECKING:
    from fitserve.client import Client

app = typer.Typer()

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
TimeoutS = Annotated[
    float | None, typer.Option("--timeout", help="Seconds to watch at most; the job goes on.")
]


@app.command()
def submit(
    ctx: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="A JSON or YAML file, or - for the standard input.")
    ],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job until it ends.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a field: fit.epochs=3.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting again with the same key gives the same job.")
    ] = None,
    timeout: TimeoutS = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job."""
    document = with_values(read_spec(spec), set_ or [])
    with connect(ctx) as client:
        job = client.submit(document, idempotency_key)
        if as_json:
            output.document(job.raw)
        elif watch:
            output.say(f"job {job.id}")
        else:
            output.say(f"job {job.id} {job.status}; follow it with: fitserve watch {job.id}")
        if watch:
            _watch(client, job.id, timeout, as_json)


@app.command()
def jobs(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only jobs in this status.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs."""
    with connect(ctx) as client:
        found = list(client.jobs(status=status, model=model, kind=kind, label=label, limit=limit))
    if as_json:
        for job in found:
            output.document(job.raw)
        return
    output.table(
        ("id", "model", "status", "phase", "done", "created"),
        [
            (
                job.id,
                job.name,
                job.status,
                job.phase if job.status == "running" else None,
                f"{job.progress.fraction:.0%}"
                if job.progress and job.progress.fraction is not None
                else None,
                f"{job.created_at:%Y-%m-%d %H:%M:%S}" if job.created_at else None,
            )
            for job in found
        ],
    )


@app.command()
def watch(ctx: typer.Context, id: JobId, timeout: TimeoutS = None, as_json: AsJson = False) -> None:  # noqa: A002 - the API's own word
    """Follow a job until it ends: epoch, loss, accuracy, time left."""
    with connect(ctx) as client:
        _watch(client, id, timeout, as_json)


@app.command()
def cancel(ctx: typer.Context, id: JobId, as_json: AsJson = False) -> None:  # noqa: A002 - the API's own word
    """Ask a job to stop; repeating is harmless."""
    with connect(ctx) as client:
        job = client.cancel(id)
    if as_json:
        output.document(job.raw)
    else:
        output.say(f"job {job.id} {job.status}")


def _watch(client: Client, job_id: str, timeout_s: float | None, as_json: bool) -> None:
    try:
        job = watch_job(client, job_id, console=output.console(), as_json=as_json, timeout_s=timeout_s)
    except KeyboardInterrupt:
        output.complain(
            f"job {job_id} goes on; fitserve watch {job_id} follows it, fitserve cancel {job_id} ends it"
        )
        raise typer.Exit(exits.Exit.INTERRUPTED) from None
    if not as_json:
        output.outcome(job)
    raise typer.Exit(exits.of_job(job))
