"""Train: fit the model, export it, prove the exports, stage the version; then publish it exactly once."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.entries import refuse_infeasible
from service.bases import ARTIFACT, FILE, FITTED, base_folder, base_of
from service.cards.card import markdown, page
from service.cards.facts import facts_of
from service.data import data_file_of, place_of
from service.exporting import bounds, exported, present_signature, refuse_signatures
from service.jobs import EventKind, Job, JobSpec, Status
from service.kind import Cancelled, Channel, Interrupted, Site
from service.memory import room_bytes
from service.protocol import Order
from service.served import announce
from service.slots import LOGICAL_CPUS, TPU
from serving.manifest import Manifest
from serving.store import Store
from trainer.architecture import Base, recorded
from trainer.observer import EpochEnd, Interruption, Progress
from trainer.resume import Checkpoints

if TYPE_CHECKING:
    from service.records import Claim
    from trainer.fit import Trained
    from trainer.fitted import Fitted

SAMPLE_ROWS = 32
EXTRA = "assets.extra"
LIBRARIES = ("tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert")


def prepare(job: Job, site: Site) -> Mapping[str, Any]:
    """Where the data lies, and where the version is staged."""
    assert job.name is not None
    return {
        **place_of(site, job),
        **bounds(site.settings),
        "store_root": str(site.settings.store_root),
        "signature": present_signature(site.store, job.name),
        **base_folder(job, site.store),
    }


def warm_up() -> None:
    """Import all that training and exporting need."""
    import matplotlib.figure  # noqa: F401

    import exporter.export  # noqa: F401
    from trainer.warming import warm_up as warm_up_trainer

    warm_up_trainer()


def run(order: Order, channel: Channel) -> Mapping[str, Any]:
    """Train, export and prove in this process, and leave the sealed version in its staging folder."""
    spec = JobSpec.model_validate(order.spec)
    refuse_infeasible([entry for entry in spec.export if not entry.optional])
    observer = _Observer(channel)
    base = base_of(order.details)
    present = None if spec.allow_signature_change else order.details["signature"]
    trained = _train(spec, order, observer, base, present)
    data_file_of(order.details, order.dataset_digest)  # data in place may have changed under it
    store = Store(Path(order.details["store_root"]))
    staging = store.stage(_model(order), order.job_id, order.token)
    artifacts = exported(
        order,
        trained.model,
        spec.export,
        trained.rows,
        staging,
        channel,
        class_names=_class_names(trained.fitted),
        present=present,
    )
    section = recorded(spec.model, trained.model, base)
    artifacts += [
        _write_samples(trained, staging),
        *_write_records(trained, staging),
        _write_document("judgement", trained.judgement, staging),
        _write_document("spec", resolved(order, trained), staging),
        _write_document(ARTIFACT, section, staging, FILE.name, kind=section["kind"]),
    ]
    if trained.fitted is not None:
        artifacts.append(_write_document(FITTED.stem, trained.fitted.to_json(), staging))
    manifest = _manifest(order, trained, artifacts, staging)
    cards = list(_write_cards(order, trained, manifest, staging))
    manifest = store.seal(staging, replace(manifest, artifacts=[*artifacts, *cards]))
    return {"artifacts": [artifact["name"] for artifact in manifest.artifacts]}


def resolved(order: Order, trained: Trained) -> dict[str, Any]:
    """The spec with what was drawn and chosen for it: enough to train it again from the store alone."""
    how = {**order.spec.get("compile", {}), "steps_per_execution": trained.steps_per_execution}
    return {**order.spec, "compile": how, "seed": order.seed}


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:  # noqa: ARG001 - the manifest says it
    """Give the staged version its number and its name on disk, and mark the job succeeded.

    Every step can be done again: the number is the job's own, the rename finds its work done, and the row
    moves only where the token is still the claim's.
    """
    assert claim.job.name is not None
    taken = site.store.versions(claim.job.name)
    number = site.records.versions.reserve(claim, claim.job.name, above=max(taken, default=0))
    if number is None or not site.records.claims.holds(claim):
        return False
    site.store.publish(claim.job.name, claim.job.id, claim.token, number)
    return _mark(claim, number, site)


def resume(claim: Claim, site: Site) -> bool:
    """Finish the publication of an attempt that died between the rename and the row.

    Where there is none, what attempts before have staged is removed: it could fill the disk of a job that
    dies often.
    """
    assert claim.job.name is not None
    number = site.records.versions.reserved(claim.job.id)
    if number in site.store.versions(claim.job.name):
        assert number is not None
        if site.store.manifest(claim.job.name, number).job_id == claim.job.id:
            return _mark(claim, number, site)
    site.store.collect(claim.job.name, claim.job.id)
    return False


def mark(work_folder: Path) -> str | None:
    """The checkpoint that got furthest."""
    return Checkpoints(work_folder / "checkpoints").furthest()


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:  # noqa: ARG001 - contract of kinds
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
        self._first: tuple[float, float] | None = None  # time and fraction of this attempt's first progress
        self._progress: Mapping[str, Any] = {}  # as it was last told

    def phase(self, name: str) -> None:
        self._channel.tell(EventKind.STATUS, {"status": Status.RUNNING.value, "phase": name})

    def note(self, message: str) -> None:
        self._channel.tell(EventKind.LOG, {"message": message})

    def progress(self, progress: Progress) -> None:
        data = {
            **asdict(progress),
            "fraction": round(progress.fraction, 6),
            "estimated_finish_at": self._estimate(progress.fraction),
        }
        self._progress = data
        self._channel.tell(EventKind.PROGRESS, data)

    def pipeline(self, diagnosis: Mapping[str, Any]) -> None:
        # With the progress so far: whoever shows the newest progress event shows no gap.
        self._channel.tell(EventKind.PROGRESS, {**self._progress, "pipeline": dict(diagnosis)})

    def epoch(self, epoch: EpochEnd) -> None:
        self._channel.tell(EventKind.METRIC, asdict(epoch))

    def interruption(self) -> Interruption | None:
        if self._channel.cancel_asked:
            return Interruption.CANCEL
        return Interruption.STOP if self._channel.stop_asked else None

    def _estimate(self, fraction: float) -> str | None:
        """When training will be over at this attempt's speed so far, ISO 8601."""
        now = time.time()
        if self._first is None:
            self._first = (now, fraction)
            return None
        began, done = self._first
        if fraction <= done:
            return None
        end = now + (now - began) * (1 - fraction) / (fraction - done)
        return datetime.fromtimestamp(end, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _train(
    spec: JobSpec,
    order: Order,
    observer: _Observer,
    base: Base | None,
    present: Mapping[str, Any] | None,
) -> Trained:
    from trainer import errors
    from trainer.fit import fit
    from trainer.strategy import Devices

    assert order.seed is not None
    try:
        return fit(
            spec,
            data_file=data_file_of(order.details, order.dataset_digest),
            workdir=Path(order.work_folder),
            seed=order.seed,
            observer=observer,
            devices=Devices(cpus=int(os.environ.get(LOGICAL_CPUS) or 1), tpu=TPU in os.environ),
            base=base,
            memory_bytes=room_bytes(order.memory_limit_bytes),
            on_built=lambda built: refuse_signatures(
                built, spec.export, class_names=_class_names(built.fitted), present=present
            ),
        )
    except errors.Cancelled as error:
        raise Cancelled from error
    except errors.Interrupted as error:
        raise Interrupted from error


def _class_names(fitted: Fitted | None) -> list[str] | None:
    """Name the classes of the only label that is a category, by number."""
    classes = [] if fitted is None else list(fitted.classes.values())
    return [str(name) for name in classes[0]] if len(classes) == 1 else None


def _write_samples(trained: Trained, staging: Path) -> dict[str, Any]:
    """Keep a few held-out rows and the trained model's own answers, so that anybody can check a server.

    The file is an npz: `inputs/<name>` and `outputs/<name>`, (rows, ...), named as in the signature
    `serving_default`; bytes are in base64, as `inputs_b64/<name>`.
    """
    import numpy as np

    from exporter.endpoint import Endpoint

    endpoint = Endpoint.of(trained.model, trained.rows.held_out.features)
    rows = {name: values[:SAMPLE_ROWS] for name, values in trained.rows.held_out.features.items()}
    bound = endpoint.bind(rows)
    arrays = dict(_asked(bound if trained.rows.requests is None else trained.rows.requests))
    arrays |= {f"outputs/{name}": values for name, values in endpoint.predict(bound, SAMPLE_ROWS).items()}
    with (staging / EXTRA / "samples.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return _record("samples", "samples", "samples.npz")


def _asked(rows: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the first rows as plain arrays: numpy's file of arrays keeps no Python objects."""
    import numpy as np

    for name, values in rows.items():
        some = values[:SAMPLE_ROWS]
        if some.dtype == object and all(isinstance(value, bytes) for value in some):
            yield f"inputs_b64/{name}", np.array([base64.b64encode(value).decode() for value in some])
        else:
            yield f"inputs/{name}", some.astype(str) if some.dtype == object else some


def _write_records(trained: Trained, staging: Path) -> Iterator[dict[str, Any]]:
    """Keep what training told: the learning curves, and callbacks' files."""
    extra = staging / EXTRA
    with (extra / "curves.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["epoch", *trained.history])
        columns = itertools.zip_longest(*trained.history.values(), fillvalue="")
        table.writerows([epoch, *row] for epoch, row in enumerate(columns, start=1))
    yield _record("curves", "csv", "curves.csv")
    for name, written in trained.files.items():
        target = extra / f"{name}{written.suffix if written.is_file() else ''}"
        if written.is_file():
            shutil.copyfile(written, target)
        else:
            shutil.copytree(written, target)
        yield _record(name, "csv" if written.suffix == ".csv" else name, target.name)


def _write_cards(
    order: Order, trained: Trained, manifest: Manifest, staging: Path
) -> Iterator[dict[str, Any]]:
    """Say for people what the version is."""
    facts = facts_of(order, trained, manifest)
    for name, format_, file, text in (
        ("model_card", "markdown", "model_card.md", markdown(facts)),
        ("model_card_html", "html", "model_card.html", page(facts)),
    ):
        (staging / EXTRA / file).write_text(text, encoding="utf-8")
        yield _record(name, format_, file)


def _write_document(
    name: str, document: Mapping[str, Any], staging: Path, file: str | None = None, **options: str
) -> dict[str, Any]:
    file = file or f"{name}.json"
    (staging / EXTRA / file).write_text(json.dumps(document, indent=1))
    return _record(name, "json", file, **options)


def _record(name: str, format_: str, file: str, **options: str) -> dict[str, Any]:
    return {"name": name, "format": format_, "path": f"{EXTRA}/{file}", "options": options}


def _manifest(
    order: Order, trained: Trained, artifacts: Sequence[Mapping[str, Any]], staging: Path
) -> Manifest:
    from exporter.signatures import signature_of

    return Manifest(
        model=_model(order),
        job_id=order.job_id,
        spec_digest=order.spec_digest,
        data_digest=order.dataset_digest or "",
        metrics={**trained.metrics, "epochs": trained.epochs_run, "best_epoch": trained.best_epoch},
        signature={name: signature.to_json() for name, signature in signature_of(staging).items()},
        libraries={name: installed_version(name) for name in LIBRARIES},
        artifacts=artifacts,
    )


def _model(order: Order) -> str:
    assert order.name is not None
    return order.name
