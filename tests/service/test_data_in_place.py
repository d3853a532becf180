"""Data that stay where the operator has them: read there, and refused where they changed or lead out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from service.jobs import Status
from service.kind import Site
from tests.service.web import TABLE
from tests.service.workbench import (
    Submit,
    claim,
    dataset_of,
    fetch,
    read,
)

OTHER = TABLE.replace(b"12", b"13")


def test_a_file_below_a_root_is_read_in_place(open_site: Site, submit: Submit, root: Path) -> None:
    job = submit(f"file://{root}/table.csv")
    fetch(open_site)
    read(open_site)
    dataset = dataset_of(open_site, job)
    assert (dataset.status, dataset.kind, dataset.filename) == ("ready", "csv", "table.csv")
    copies = [
        each for each in open_site.settings.data_root.rglob("*") if each.is_file() and each.suffix == ""
    ]
    assert copies == []


def test_data_in_place_that_have_changed_are_refused_and_a_touch_is_no_change(
    open_site: Site, submit: Submit, root: Path
) -> None:
    from service.data import data_file_of
    from service.kinds import train
    from trainer.errors import InvalidDataError

    file = root / "table.csv"
    submit(f"file://{file}")
    fetch(open_site)
    read(open_site)
    held = claim(open_site.records)
    details = train.prepare(held.job, open_site)
    os.utime(file, (1, 1))
    assert data_file_of(details, held.job.dataset_digest).path == file
    file.write_bytes(OTHER)
    with pytest.raises(InvalidDataError, match="have changed"):
        data_file_of(details, held.job.dataset_digest)


def test_a_file_that_became_a_link_out_of_its_root_is_refused_where_it_is_read(
    open_site: Site, submit: Submit, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(TABLE)
    job = submit(f"file://{root}/table.csv")
    (root / "table.csv").unlink()
    (root / "table.csv").symlink_to(secret)
    fetch(open_site)
    dataset = dataset_of(open_site, job)
    assert (dataset.status, dataset.error["code"]) == ("failed", "data_unreachable")
    assert "FITSERVE_DATA_ROOTS" in dataset.error["detail"]


def test_a_folder_with_a_link_out_of_its_root_is_refused(
    open_site: Site, submit: Submit, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_bytes(TABLE)
    (root / "many").mkdir()
    (root / "many" / "link.csv").symlink_to(tmp_path / "secret.csv")
    job = submit(f"file://{root}/many")
    fetch(open_site)
    assert "leads out" in dataset_of(open_site, job).error["detail"]


def test_a_folder_of_images_is_read_in_place(open_site: Site, submit: Submit, root: Path) -> None:
    for number, label in enumerate(("cat", "dog")):
        (root / "pets" / label).mkdir(parents=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(root / "pets" / label / "1.png")
    job = submit(f"file://{root}/pets")
    fetch(open_site)
    read(open_site)
    dataset = dataset_of(open_site, job)
    assert (dataset.status, dataset.kind, dataset.schema["rows"]) == ("ready", "image_folder", 2)


def test_a_file_that_is_not_there_is_unreachable(open_site: Site, submit: Submit, root: Path) -> None:
    job = submit(f"file://{root}/absent.csv")
    fetch(open_site)
    row = open_site.records.jobs.get(dataset_of(open_site, job).ingest_id)
    assert (row.status, row.attempt) == (Status.QUEUED, 1)  # it may be mounted in a while
    assert "data_unreachable" in open_site.records.jobs.transitions(row.id)[-1].reason
