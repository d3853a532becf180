"""From a body to a row that tells something of a spec without training it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from service.errors import Fault, SpecRefusedError
from service.jobs import Kind, Limits, NewJob
from service.pointers import faults_of, pointer_of
from service.records import Dataset, Records
from service.submission import data_of, model_of, new_training_job
from service.uris import NOTHING, Allowed
from trainer.source import DataOptions
from trainer.spec import Data, InspectSpec


class InspectBody(InspectSpec):
    """A model, and what its rows look like: a job's `data` section, or `inputs`, or what the model says."""

    data: Data | None = None


def new_inspection(body: object, records: Records, allowed: Allowed = NOTHING) -> NewJob:
    """The row that this body asks for, with the shapes of the inputs resolved.

    Raises:
        SpecRefusedError: with every error of the body, each with its JSON pointer.
    """
    source, faults = data_of(body, records.datasets, allowed)
    dataset = source.recorded if source is not None else None
    if source is not None and dataset is None:
        faults.append(
            Fault("/data/uri", "not fetched yet: POST /v1/datasets with this uri first, or give inputs")
        )
    body, model_faults = model_of(body, records)
    faults += model_faults
    try:
        asked = InspectBody.model_validate(body)
    except ValidationError as error:
        raise SpecRefusedError([*faults_of(error, body, InspectBody), *faults]) from error
    if asked.data is not None and asked.inputs is not None:
        faults.append(Fault("/inputs", "data says the inputs already; leave one of them out"))
    if asked.data is not None:
        faults += _prepared(asked.data)
    if faults:
        raise SpecRefusedError(faults)
    assert isinstance(body, Mapping)
    spec = {key: value for key, value in body.items() if key != "data"}
    shapes = None if asked.data is None else _shapes(asked.data, dataset)
    if asked.data is not None and shapes is not None:
        spec["inputs"] = shapes
        spec.setdefault("batch_size", asked.data.pipeline.batch_size)
    return NewJob(kind=Kind.INSPECT, spec=spec)


def new_validation(body: object, records: Records, allowed: Allowed = NOTHING) -> NewJob:
    """The row for a dry run of the training job that this body asks for.

    Raises:
        SpecRefusedError: as for the job itself.
    """
    asked = new_training_job(body, records, allowed)
    # The dry run keeps to no limit of the job it is about, and publishes under no name.
    return replace(asked, kind=Kind.VALIDATE, name=None, priority=0, labels={}, limits=Limits())


def _shapes(data: DataOptions, dataset: Dataset | None) -> dict[str, list[int]] | None:
    """The shape of one row of each input, as the sources make it: several columns side by side."""
    columns: Mapping[str, Any] = {}
    if data.held is not None:
        columns = data.held.shapes
    elif dataset is not None and dataset.schema is not None:
        columns = {column["name"]: column["shape"] for column in dataset.schema["columns"]}
    if any(name not in columns for wanted in data.inputs.values() for name in wanted):
        return None  # not read yet, or read with other columns than those recorded
    return {
        name: list(columns[wanted[0]]) or [1]
        if len(wanted) == 1
        else [sum(math.prod(columns[each]) for each in wanted)]
        for name, wanted in data.inputs.items()
    }


def _prepared(data: DataOptions) -> list[Fault]:
    """What keeps shapes from being known without the rows: how wide a category is, its values say."""
    features = {name for wanted in data.inputs.values() for name in wanted}
    return [
        Fault(
            pointer_of(["data", "columns", name]),
            "what it becomes is learnt from its values: POST /v1/jobs:validate reads them, or give inputs "
            "here in place of data",
        )
        for name in data.columns
        if name in features
    ]
