"""Fetch: bring what a URI names into the data root, or take the digest of what stays in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.answers import mark, resume
from service.data import FETCHED, dataset_file, folder_of_conversions, keep
from service.errors import UploadTooLargeError
from service.jobs import EventKind, Job, Kind, NewJob, Phase, Status
from service.kind import Cancelled, Channel, Interrupted, Site
from service.protocol import Order
from service.uris import FILE, Allowed, UriError, parsed

if TYPE_CHECKING:
    from service.records import Claim

__all__ = ["complete", "give_up", "mark", "prepare", "resume", "run", "warm_up"]


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """What to fetch, from where it may come and how much of it.

    The row's own spec shows the URI without its secrets; here it is whole.
    """
    assert job.dataset_id is not None
    dataset = site.records.datasets.get(job.dataset_id)
    settings = site.settings
    return {
        "uri": dataset.uri if dataset else None,
        "roots": settings.data_roots,
        "hosts": settings.data_hosts,
        "data_root": str(settings.data_root),
        "max_bytes": settings.max_upload_bytes,
        "seconds": settings.fetch_s,
    }


def warm_up() -> None:
    """Import what is needed to fetch over HTTP."""
    import service.fetching  # noqa: F401


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Fetch it; `digest` and `size_bytes`, and the `fingerprint` of what stays in place.

    Raises:
        trainer.errors.TrainerError: it isn't allowed, can't be had, or is too large.
    """
    from service.fetching import Bounds, FetchRefusedError, fetch
    from service.mounted import measured

    channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": Phase.LOADING_DATA.value})
    details = order.details
    root, uri = Path(details["data_root"]), details["uri"]
    allowed = Allowed.of(details["roots"], details["hosts"])
    if uri is None:
        raise FetchRefusedError("the data set was deleted")
    try:
        if parsed(uri).scheme == FILE:
            return measured(allowed.path_of(uri), allowed.roots, folder_of_conversions(root, None))
        _clear(root, order.job_id)  # what an attempt before has left
        pieces = fetch(uri, allowed, Bounds(details["max_bytes"], details["seconds"]), _asking(channel))
        stored = keep(root, pieces, max_bytes=details["max_bytes"], prefix=_prefix(order.job_id))
    except (UriError, UploadTooLargeError) as error:
        raise FetchRefusedError(str(error)) from error
    return {"digest": stored.digest, "size_bytes": stored.size_bytes}


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:
    """Record which content it is, and queue the row that reads it."""
    dataset = site.records.datasets.get(claim.job.dataset_id or "")
    filename = dataset.filename if dataset else "data"
    ingest = NewJob(
        kind=Kind.INGEST,
        spec={"kind": Kind.INGEST.value, "filename": filename},
        dataset_digest=outcome["digest"],
    )
    file = dataset_file(site.settings.data_root, outcome["digest"])
    return site.records.datasets.fetched(
        claim, outcome, ingest, is_there=lambda: "fingerprint" in outcome or file.exists()
    )


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:  # noqa: ARG001 - contract of kinds
    """Remove what was fetched of it; the data set reads on this row why it can't be used."""
    _clear(site.settings.data_root, claim.job.id)


def _asking(channel: Channel) -> Callable[[], None]:
    """Look whether to go on."""

    def go_on() -> None:
        if channel.cancel_asked:
            raise Cancelled
        if channel.stop_asked:
            raise Interrupted

    return go_on


def _prefix(job_id: str) -> str:
    return f"{FETCHED}{job_id}-"


def _clear(root: Path, job_id: str) -> None:
    for left in root.glob(f"{_prefix(job_id)}*"):
        left.unlink(missing_ok=True)
