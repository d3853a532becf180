"""Data in buckets, from a real server of S3's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from service.jobs import SlotKind
from service.kind import Site
from service.ports import free_ports
from service.records import Dataset
from service.settings import Settings
from service.slots import FETCH, SHORT
from service.sources import made_of
from service.worker import _slots
from tests.acceptance.stack import wait_for
from tests.service.web import TABLE
from tests.service.workbench import claim, supervise

ODD = "a%20%23%25%2A%5B1%5D%C3%A9.csv"
"""A key as a URI has it."""


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment in which s3://open and s3://closed are those of a server on loopback."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return httpx.get(url, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    wait_for(answers, 60)
    for bucket in ("open", "closed"):
        httpx.put(f"{url}/{bucket}", trust_env=False).raise_for_status()
        for key in ("deep/table.csv", ODD):
            httpx.put(f"{url}/{bucket}/{key}", content=TABLE, trust_env=False).raise_for_status()
    yield {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    process.kill()
    process.wait()


@pytest.fixture
def open_site(here: Site) -> Site:
    """A site on SQLite that allows one bucket."""
    return Site(here.settings.model_copy(update={"data_hosts": "s3://open"}), here.records, here.store)


def fetched(site: Site, uri: str, environment: dict[str, str]) -> Dataset:
    made = made_of(uri, site.records.datasets)
    slot = replace(FETCH, environment={**FETCH.environment, **environment})
    supervise(claim(site.records, slot=SlotKind.FETCH), site, slot)
    found = site.records.datasets.get(made.id)
    assert found is not None
    return found


def test_an_object_is_fetched_and_read(open_site: Site, s3: dict[str, str]) -> None:
    dataset = fetched(open_site, "s3://open/deep/table.csv", s3)
    assert dataset.size_bytes == len(TABLE)
    supervise(claim(open_site.records, slot=SlotKind.SHORT), open_site, SHORT)
    read = open_site.records.datasets.get(dataset.id)
    assert (read.status, read.kind, read.filename) == ("ready", "csv", "table.csv")


def test_a_key_is_written_with_percents_where_a_uri_has_other_uses(
    open_site: Site, s3: dict[str, str]
) -> None:
    dataset = fetched(open_site, f"s3://open/{ODD}", s3)
    assert (dataset.size_bytes, dataset.filename) == (len(TABLE), "a #%*[1]é.csv"), dataset.error


def test_an_object_that_is_not_there_is_told_at_once(open_site: Site, s3: dict[str, str]) -> None:
    dataset = fetched(open_site, "s3://open/absent.csv", s3)
    assert (dataset.status, dataset.error["code"]) == ("failed", "data_unreachable")
    assert "there is no s3://open/absent.csv" in dataset.error["detail"]


def test_a_larger_object_is_refused(open_site: Site, s3: dict[str, str]) -> None:
    small = open_site.settings.model_copy(update={"max_upload_bytes": 10})
    dataset = fetched(Site(small, open_site.records, open_site.store), "s3://open/deep/table.csv", s3)
    assert "larger than 10 bytes" in dataset.error["detail"]


def test_a_bucket_that_is_not_listed_is_refused_by_the_child_too(open_site: Site, s3: dict[str, str]) -> None:
    dataset = fetched(open_site, "s3://closed/deep/table.csv", s3)
    assert "s3://closed is no bucket that is allowed here" in dataset.error["detail"]


def test_an_endpoint_that_does_not_answer_is_tried_again(open_site: Site, s3: dict[str, str]) -> None:
    (port,) = free_ports(1)
    once = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1"}
    dataset = fetched(open_site, "s3://open/deep/table.csv", {**s3, **once})
    assert dataset.status == "pending"
    moves = open_site.records.jobs.transitions(dataset.ingest_id)
    assert "data_unreachable" in moves[-1].reason


def test_only_what_fetches_inherits_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = {slot.name: dict(slot.environment) for slot in _slots(Settings(data_hosts="s3://open"))}
    assert [name for name, env in told.items() if "AWS_SECRET_ACCESS_KEY" in env] == ["fetch"]
    assert "fetch" not in {slot.name for slot in _slots(Settings())}
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"
