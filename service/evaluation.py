"""From a body to a row that scores a version: what the body leaves out is as the version was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from service.errors import Fault, SpecRefusedError
from service.jobs import Kind, NewJob, RowOptions
from service.pointers import faults_of
from service.records import PublishedVersion, Records
from service.reexport import trained_by
from service.submission import data_of, identity_of, pinned
from service.uris import FURTHER, NOTHING, Allowed
from serving.store import Store
from trainer.compiling import CompileOptions
from trainer.spec import Data

_OF_TRAINING = ("split", "validation_split", *FURTHER)
_INHERITED = ("kind", "features", "label", "sample_weight", "columns")


class EvaluationBody(RowOptions):
    """On which rows a version is scored.

    `data` needs its `uri`, or `kind` inline and its `rows`; the columns are those the version was trained on
    unless it names others. Every row is scored, by the version's own loss and metrics, or by `compile`'s.
    """

    data: Data
    compile: CompileOptions = Field(default_factory=CompileOptions, description="Its loss and metrics.")


def new_evaluation(
    body: object, version: PublishedVersion, records: Records, store: Store, allowed: Allowed = NOTHING
) -> NewJob:
    """The row that this body asks for.

    Raises:
        SpecRefusedError: with every error of the body, each with its JSON pointer.
        NotFoundError: the version doesn't say how it was trained.
    """
    if not isinstance(body, Mapping):
        raise SpecRefusedError([Fault("", "expected an object with data")])
    trained = trained_by(version, store)
    full = _completed(body, trained, records, allowed)
    source, faults = data_of(full, records.datasets, allowed)
    given = body.get("data")
    if isinstance(given, Mapping):
        faults += [
            Fault(f"/data/{name}", "every row is scored: leave it out")
            for name in _OF_TRAINING
            if name in given
        ]
    try:
        asked = EvaluationBody.model_validate(full)
    except ValidationError as error:
        raise SpecRefusedError([*faults_of(error, full, EvaluationBody), *faults]) from error
    if faults:
        raise SpecRefusedError(faults)
    found = {} if source is None else {"data": source.settled(records.datasets)}
    dataset_id, digest = identity_of(asked.data, found.get("data"))
    return NewJob(
        kind=Kind.EVALUATE,
        spec={
            "model": version.model,
            "version": version.number,
            "data": pinned(full, found)["data"],
            "compile": full["compile"],
        },
        name=version.model,
        priority=asked.priority,
        labels=asked.labels,
        dataset_id=dataset_id,
        dataset_digest=digest,
        datasets={use: dataset.id for use, dataset in found.items()},
        limits=asked.limits,
    )


def _completed(
    body: Mapping[str, Any], trained: Mapping[str, Any], records: Records, allowed: Allowed
) -> dict[str, Any]:
    """The body with what it leaves out: columns and batch size as in training, the file's own kind."""
    how = trained.get("compile", {})
    full = {"compile": how, **body}
    if isinstance(body.get("compile"), Mapping):
        full["compile"] = {**how, **body["compile"]}
    data = body.get("data")
    if not isinstance(data, Mapping):
        return full
    before = trained["data"]
    inherited = {name: before[name] for name in _INHERITED if name in before}
    source, _ = data_of(body, records.datasets, allowed)
    if source is not None and source.recorded is not None and source.recorded.kind is not None:
        inherited["kind"] = source.recorded.kind
    if "batch_size" in before.get("pipeline", {}):
        inherited["pipeline"] = {"batch_size": before["pipeline"]["batch_size"]}
    return {**full, "data": {**inherited, **data}}
