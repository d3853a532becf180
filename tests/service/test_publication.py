"""One job, one version: whatever dies between the staging folder and the row."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.jobs import Status
from service.kind import Site
from service.kinds import train
from service.records import Records
from service.served import announce
from service.settings import Settings
from serving import store as store_module
from serving.store import Store
from tests.acceptance.stack import wait_for
from tests.service.workbench import claim, new, stage, working


@pytest.mark.parametrize("renamed", [False, True], ids=["staged", "renamed"])
@pytest.mark.parametrize("cancelled", ["while its lease runs out", "while it waits again"])
def test_a_cancelled_job_leaves_nothing_in_the_store(
    local: Settings, own_records: Records, cancelled: str, renamed: bool
) -> None:
    """Its worker died while it published. TensorFlow Serving would load a version that no row knows."""
    store = Store(local.store_root)
    job = own_records.jobs.create(new())
    held = claim(own_records, lost=True)
    staging = stage(store, job.id, held.token)
    if renamed:
        number = own_records.versions.reserve(held, "tiny")
        store.publish("tiny", job.id, held.token, number)
    if cancelled == "while it waits again":
        own_records.recovery.recover()
    own_records.jobs.cancel(job.id)
    with working(local):
        wait_for(lambda: own_records.jobs.get(job.id).status.is_terminal, 10)

        def agree() -> bool:
            published = own_records.jobs.get(job.id).status is Status.SUCCEEDED
            return store.versions("tiny") == ([1] if published else []) and not staging.exists()

        wait_for(agree, 5)


def test_a_version_that_lacks_only_its_row_is_marked_and_not_trained_again(site: Site) -> None:
    """Its worker died between the rename and the row."""
    job = site.records.jobs.create(new())
    held = claim(site.records, lost=True)
    stage(site.store, job.id, held.token)
    number = site.records.versions.reserve(held, "tiny")
    site.store.publish("tiny", job.id, held.token, number)
    site.records.recovery.recover()

    assert train.resume(claim(site.records), site)
    assert site.records.jobs.get(job.id).status is Status.SUCCEEDED
    assert site.records.versions.numbers() == {"tiny": [1]}
    assert site.store.versions("tiny") == [1]


def test_what_attempts_before_have_staged_is_removed_by_the_next(site: Site) -> None:
    """Each would keep the size of a version until the job ends."""
    job = site.records.jobs.create(new())
    lost = claim(site.records, lost=True)
    staging = stage(site.store, job.id, lost.token)
    site.records.recovery.recover()
    assert not train.resume(claim(site.records), site)
    assert not staging.exists()


def test_a_worker_that_lost_its_job_while_it_published_publishes_nothing(site: Site) -> None:
    job = site.records.jobs.create(new())
    stale = claim(site.records, lost=True)
    stage(site.store, job.id, stale.token)
    assert site.records.versions.reserve(stale, "tiny") == 1
    site.records.recovery.recover()
    claim(site.records)

    assert not train.complete(stale, {}, site)
    assert site.store.versions("tiny") == []


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_a_late_worker_can_not_end_a_job_that_waits_again(records: Records, status: Status) -> None:
    job = records.jobs.create(new())
    late = claim(records, lost=True)
    records.recovery.recover()
    assert not records.claims.finish(late, status)
    assert records.jobs.get(job.id).status is Status.QUEUED


def test_a_restored_database_goes_on_above_the_numbers_in_the_store(site: Site) -> None:
    """A backup is older than the store; a job must not fail after all its training because of that."""
    stage(site.store, "job_before", 1)
    site.store.publish("tiny", "job_before", 1, 1)
    job = site.records.jobs.create(new())
    held = claim(site.records)
    stage(site.store, job.id, held.token)
    assert train.complete(held, {}, site)
    assert site.store.versions("tiny") == [1, 2]


def test_a_publication_that_meets_its_own_jobs_version_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was frozen for a while may rename between the look and the rename of the one after it."""
    store = Store(tmp_path)
    late, current = stage(store, "job_1", 1), stage(store, "job_1", 3)
    check = store_module._check_sealed

    def check_while_the_late_one_renames(staging: Path, model: str, job_id: str) -> None:
        check(staging, model, job_id)
        late.rename(current.parent / "1")

    monkeypatch.setattr(store_module, "_check_sealed", check_while_the_late_one_renames)
    assert store.publish("tiny", "job_1", 3, 1) == current.parent / "1"


def test_models_config_is_not_written_again_while_the_rows_say_the_same(
    local: Settings, own_records: Records
) -> None:
    """Every worker's reconciler calls this every two seconds; on SQLite all writers wait for its fsyncs."""
    store = Store(local.store_root)
    announce(own_records, store)
    before = (local.store_root / "models.config").stat()
    announce(own_records, store)
    after = (local.store_root / "models.config").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
