"""The specs in the pages are specs, and the wrong one is refused in the words that are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import SpecRefusedError
from service.jobs import JobSpec, Kind, NewJob, SlotKind
from service.problems import TABLE, Problem
from service.records import Records
from service.submission import new_training_job
from tests.docs.blocks import BLOCKS, ROOT, Block

SPECS = [
    block
    for block in BLOCKS
    if block.language == "json" and ("spec" in block.words or block.file is not None)
]


def shown(word: str) -> dict[str, Any]:
    (block,) = [block for block in BLOCKS if word in block.words]
    return json.loads(block.text)


@pytest.mark.parametrize("block", SPECS, ids=lambda block: block.place)
def test_specs_are_valid(block: Block) -> None:
    JobSpec.model_validate(json.loads(block.text))


def test_there_is_a_spec_in_the_quickstart_and_one_in_the_reference() -> None:
    assert {block.page for block in SPECS} >= {"docs/quickstart.md", "docs/job-spec.md"}


def test_the_wrong_spec_is_answered_as_shown(tmp_path: Path) -> None:
    records = Records(f"sqlite:///{tmp_path / 'records.db'}")
    records.database.migrate()
    example = json.loads((ROOT / "examples" / "breast_cancer.json").read_text())
    columns = [{"name": name} for name in (*example["data"]["features"], example["data"]["label"])]
    records.datasets.create(
        dataset_id="ds_1",
        name="breast-cancer",
        digest="sha256:1",
        size_bytes=1,
        filename="breast_cancer.csv",
        ingest=NewJob(kind=Kind.INGEST, spec={}),
    )
    ingest = records.claims.claim_next(SlotKind.SHORT, "w", 30)
    assert ingest is not None
    records.datasets.ingested(
        ingest, {"kind": "csv", "schema": {"rows": 569, "columns": columns}, "statistics": {}}
    )
    answer = shown("faults")
    with pytest.raises(SpecRefusedError) as refused:
        new_training_job(shown("refused"), records)
    records.close()
    assert [{"pointer": fault.pointer, "detail": fault.detail} for fault in refused.value.faults] == answer[
        "errors"
    ]
    assert (answer["detail"], answer["code"]) == (str(refused.value), TABLE[SpecRefusedError].code)


@pytest.mark.parametrize("word", ["faults", "problem"])
def test_problems_have_the_form_of_problems(word: str) -> None:
    problem = Problem.model_validate(shown(word))
    assert set(shown(word)) == set(Problem.model_fields)
    assert problem.type == f"urn:fitserve:problem:{problem.code}"
