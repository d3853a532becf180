"""From a URI in a body to a data set: found, or made and fetched by a worker; never fetched here."""

from __future__ import annotations

from service.jobs import Kind, NewJob, new_id
from service.records import Dataset
from service.records.datasets import DatasetRecords
from service.uris import filename_of, id_of, redacted

DATASET = "dataset://"


def known_by(uri: str, datasets: DatasetRecords) -> Dataset | None:
    """The unnamed data set of this URI, or None."""
    return datasets.get(id_of(uri))


def made_of(uri: str, datasets: DatasetRecords, *, name: str | None = None) -> Dataset:
    """The data set of this URI, by its name if it has one; a new one, or one that failed, is fetched.

    Raises:
        NameTakenError: the name belongs to other data.
    """
    row = NewJob(kind=Kind.FETCH, spec={"kind": Kind.FETCH.value, "uri": redacted(uri)})
    return datasets.create(
        dataset_id=id_of(uri) if name is None else new_id("ds"),
        name=name,
        uri=uri,
        filename=filename_of(uri),
        ingest=row,
    )
