"""Train: fit the model, export it, prove the exports, stage the version; then publish it exactly once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.data import dataset_file
from service.jobs import EventKind, Job, JobSpec, Phase, Status
from service.kind import Cancelled, Channel, Interrupted, Site
from service.protocol import Order
from service.records import Claim
from service.served import announce
from serving.manifest import Manifest
from serving.store import Store

if TYPE_CHECKING:
    from trainer.fit import EpochEnd, Interruption, Progress, Trained

SAMPLE_ROWS = 32
LIBRARIES = ("tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert")


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data lies, and where the version is staged."""
    assert job.dataset_digest is not None
    return {
        "data_file": str(dataset_file(site.settings.data_root, job.dataset_digest)),
        "store_root": str(site.settings.store_root),
    }


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Train, export and prove in this process, and leave the sealed version in its staging folder."""
    import exporter.export
    import trainer.fit
    from exporter.entries import with_saved_model
    from trainer.errors import Cancelled as TrainingCancelled
    from trainer.errors import Interrupted as TrainingInterrupted

    assert order.name is not None
    assert order.seed is not None
    spec = JobSpec.model_validate(order.spec)
    observer = _Observer(channel)
    observer.phase(Phase.LOADING_DATA)
    try:
        trained = trainer.fit.fit(
            spec,
            data_file=Path(order.details["data_file"]),
            workdir=Path(order.work_folder),
            seed=order.seed,
            observer=observer,
        )
    except TrainingCancelled as error:
        raise Cancelled from error
    except TrainingInterrupted as error:
        raise Interrupted from error
    store = Store(Path(order.details["store_root"]))
    staging = store.stage(order.name, order.job_id, order.token)
    artifacts = exporter.export.export(
        trained.model,
        with_saved_model(spec.export),
        held_out=exporter.export.Samples(trained.held_out.features, trained.held_out.targets),
        representative=trained.representative,
        out=staging,
        on_step=observer.step,
        should_stop=lambda: channel.stop_asked or channel.cancel_asked,
    )
    samples = _write_samples(trained, staging)
    (staging / "assets.extra" / "spec.json").write_text(json.dumps(order.spec, indent=1))
    manifest = store.seal(
        staging, _manifest(order, trained, [*(a.to_json() for a in artifacts), samples], staging)
    )
    return {"artifacts": [artifact["name"] for artifact in manifest.artifacts], "metrics": trained.metrics}


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:  # noqa: ARG001 - the manifest tells all
    """Give the staged version its number and its name on disk, and mark the job succeeded.

    Every step can be done again: the number is the job's own, the rename finds its work done, and the row
    moves only where the token is still the claim's.
    """
    assert claim.job.name is not None
    if not site.records.claims.holds(claim):
        return False
    number = site.records.versions.reserve(claim, claim.job.name)
    if number is None:
        return False
    site.store.publish(claim.job.name, claim.job.id, claim.token, number)
    return _mark(claim, number, site)


def resume(claim: Claim, site: Site) -> bool:
    """Finish the publication of an attempt that died between the rename and the row."""
    assert claim.job.name is not None
    number = site.records.versions.reserved(claim.job.id)
    if number is None or number not in site.store.versions(claim.job.name):
        return False
    if site.store.manifest(claim.job.name, number).job_id != claim.job.id:
        return False
    return _mark(claim, number, site)


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:  # noqa: ARG001 - the contract of kinds
    """Remove what was staged; logs and checkpoints stay."""
    assert claim.job.name is not None
    site.store.collect(claim.job.name, claim.job.id)


def _mark(claim: Claim, number: int, site: Site) -> bool:
    assert claim.job.name is not None
    manifest = asdict(site.store.manifest(claim.job.name, number))
    result = {"model": claim.job.name, "version": number, "artifacts": manifest["artifacts"]}
    done = site.records.versions.published(claim, number=number, manifest=manifest, result=result)
    if done:
        announce(site.records, site.store)
        site.store.collect(claim.job.name, claim.job.id)
        shutil.rmtree(site.settings.jobs_folder / claim.job.id / "work", ignore_errors=True)
    return done


class _Observer:
    """Passes on to the supervisor what the trainer and the exporter see."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def phase(self, name: str) -> None:
        self._channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": str(name)})

    def progress(self, progress: Progress) -> None:
        self._channel.tell(EventKind.PROGRESS, progress.to_json())

    def epoch(self, end: EpochEnd) -> None:
        self._channel.tell(EventKind.METRIC, end.to_json())

    def interruption(self) -> Interruption | None:
        from trainer.fit import Interruption

        if self._channel.cancel_asked:
            return Interruption.CANCEL
        return Interruption.STOP if self._channel.stop_asked else None

    def step(self, phase: str, artifact: str) -> None:
        self._channel.tell(
            EventKind.STATUS, {"status": Status.RUNNING.value, "phase": phase, "artifact": artifact}
        )


def _write_samples(trained: Trained, staging: Path) -> dict[str, Any]:
    """Keep a few held-out rows and the trained model's own answers, so that anybody can check a server.

    The file is an npz: `inputs/<name>` and `outputs/<name>`, each of shape (rows, ...).
    """
    import numpy as np

    from exporter.export import answers

    rows = {name: values[:SAMPLE_ROWS] for name, values in trained.held_out.features.items()}
    arrays = {f"inputs/{name}": values for name, values in rows.items()}
    arrays |= {f"outputs/{name}": values for name, values in answers(trained.model, rows).items()}
    path = staging / "assets.extra" / "samples.npz"
    np.savez(path, **arrays)
    return {
        "name": "samples",
        "format": "samples",
        "path": "assets.extra/samples.npz",
    }


def _manifest(
    order: Order, trained: Trained, artifacts: Sequence[Mapping[str, Any]], staging: Path
) -> Manifest:
    from exporter.export import signature_of

    return Manifest(
        model=str(order.name),
        job_id=order.job_id,
        spec_digest=order.spec_digest,
        data_digest=order.dataset_digest or "",
        metrics=trained.metrics,
        signature=signature_of(staging),
        libraries={name: installed_version(name) for name in LIBRARIES},
        artifacts=list(artifacts),
    )
