"""Aliases: what the API takes and tells, and what of them models.config says."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from service.context import Context
from service.records import Records
from service.served import announce
from service.settings import Settings
from serving.store import Store
from tests.service.workbench import ask, claim, new

MANIFEST = {
    "metrics": {}, "signature": {}, "artifacts": [], "spec_digest": "", "data_digest": "", "libraries": {},
}  # fmt: skip


@pytest.fixture
def two(records: Records) -> Records:
    """Versions 1 and 2 of the model tiny, in the rows."""
    for number in (1, 2):
        records.jobs.create(new())
        held = claim(records)
        assert records.versions.reserve(held, "tiny") == number
        assert records.versions.published(held, number=number, manifest=MANIFEST, result={})
    return records


def config(records: Records, settings: Settings) -> tuple[list[int], dict[str, int]]:
    """The versions and labels that models.config names."""
    announce(records, Store(settings.store_root))
    text = (settings.store_root / "models.config").read_text()
    labels = re.findall(r'version_labels \{ key: "(.+)" value: (\d+) \}', text)
    return [int(each) for each in re.findall(r"(?<!_)versions: (\d+)", text)], {k: int(v) for k, v in labels}


def test_a_label_follows_its_alias_only_when_it_is_assigned(two: Records, settings: Settings) -> None:
    assert config(two, settings) == ([], {})  # the latest one

    first = two.aliases.put("tiny", "stable", 1)
    assert first is not None
    assert first.assigned is None
    assert two.aliases.unassigned() == [first]
    assert config(two, settings) == ([1, 2], {})
    assert two.aliases.assign(first)
    assert two.aliases.unassigned() == []
    assert config(two, settings) == ([1, 2], {"stable": 1})

    moved = two.aliases.put("tiny", "stable", 2)
    assert moved is not None
    assert (moved.version, moved.assigned) == (2, 1)
    assert not two.aliases.assign(first)  # it was asked about before the move
    assert config(two, settings) == ([1, 2], {"stable": 1})
    assert two.aliases.assign(moved)
    assert config(two, settings) == ([2], {"stable": 2})

    assert two.aliases.remove("tiny", "stable")
    assert not two.aliases.remove("tiny", "stable")
    assert config(two, settings) == ([], {})


def test_an_alias_is_put_shown_and_taken_away(two: Records, settings: Settings) -> None:
    async def talk(http: httpx.AsyncClient, _: Context) -> None:
        url = "/v1/models/tiny/aliases/stable"
        put = await http.put(url, json={"version": 1})
        assert put.status_code == 200
        again = await http.put(url, json={"version": 1})
        assert {
            "model": "tiny",
            "alias": "stable",
            "version": 1,
            "assigned": None,
        }.items() <= again.json().items()
        (model,) = (await http.get("/v1/models")).json()["data"]
        assert model["aliases"] == {"stable": 1}
        newest, oldest = (await http.get("/v1/models/tiny/versions")).json()["data"]
        assert (newest["aliases"], oldest["aliases"]) == ([], ["stable"])
        assert (await http.get("/v1/models/tiny/versions/1")).json()["aliases"] == ["stable"]
        assert (await http.delete(url)).status_code == 204
        gone = await http.delete(url)
        assert gone.status_code == 404
        assert gone.json()["detail"] == "model 'tiny' has no alias 'stable'; it has none"

    ask(settings, talk)


REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "no such version": ("tiny/aliases/a", {"version": 3}, 404, "there is no version 3 of model 'tiny'"),
    "no such model": ("tony/aliases/a", {"version": 1}, 404, "there is no version 1 of model 'tony'"),
    "no alias's name": ("tiny/aliases/a.b", {"version": 1}, 404, "a.b"),
    "a text": ("tiny/aliases/a", {"version": "1"}, 422, "/version"),
    "nothing": ("tiny/aliases/a", {}, 422, "/version"),
    "something else": ("tiny/aliases/a", {"version": 1, "to": 2}, 422, "/to"),
    "a list": ("tiny/aliases/a", [1], 422, "expected an object with version"),
    "an integer beyond the column": ("tiny/aliases/a", {"version": 2**31}, 422, "/version"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_alias_can_mean_is_refused(two: Records, settings: Settings, case: str) -> None:
    path, body, status, told = REFUSED[case]

    async def talk(http: httpx.AsyncClient, _: Context) -> None:
        answer = await http.put(f"/v1/models/{path}", json=body)
        assert answer.status_code == status
        assert told in answer.text

    ask(settings, talk)
    assert two.aliases.of_models(["tiny"]) == []
