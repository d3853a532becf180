"""Explicit sets for validation and test, beside the one that trains."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from trainer.errors import DataUnreachableError, InvalidDataError
from trainer.loading import load
from trainer.source import DataFile, FileOptions, sources

TRAIN = "age,city,y\n30,Rome,a\n40,Oslo,b\n50,Rome,a\n"
VALIDATION = "age,city,y\n60.5,Oslo,b\n,Rome,a\n"
TEST = "y,city,age\nb,Paris,70\n"


def options(**fields: Any) -> FileOptions:
    base = {
        "kind": "csv",
        "uri": "dataset://main",
        "features": ["age", "city"],
        "label": "y",
        "columns": {
            "age": {"kind": "number", "missing": "mean"},
            "city": {"kind": "category"},
            "y": {"kind": "category"},
        },
        "validation": {"uri": "dataset://val"},
        "test": {"uri": "dataset://test"},
    }
    made = sources()["csv"].Options.model_validate({**base, **fields})
    assert isinstance(made, FileOptions)
    return made


def file(folder: Path, content: str, **further: DataFile) -> DataFile:
    folder.mkdir()
    (folder / "rows.csv").write_text(content)
    return DataFile(folder / "rows.csv", folder / "converted", None, further)


@pytest.fixture
def sets(tmp_path: Path) -> DataFile:
    further = {"validation": VALIDATION, "test": TEST}
    return file(
        tmp_path / "main", TRAIN, **{part: file(tmp_path / part, text) for part, text in further.items()}
    )


def test_each_set_is_a_part_and_only_the_main_one_teaches(sets: DataFile) -> None:
    splits = load(options(), sets, seed=0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test) if part] == [3, 2, 1]
    assert splits.train.targets["label"].tolist() == [0, 1, 0]
    assert splits.validation.targets["label"].tolist() == [1, 0]
    assert splits.test.targets["label"].tolist() == [1]
    assert "Paris" not in json.dumps(splits.fitted.columns)
    # The mean of the training rows, 40, stands for what is missing.
    assert np.isclose(splits.fitted.columns["age"]["mean"], 40)


def test_the_digest_is_of_all_sets(sets: DataFile) -> None:
    before = load(options(), sets, seed=0).digest
    assert load(options(test=None), sets, seed=0).digest != before
    (sets.path.parent.parent / "test" / "rows.csv").write_text(TEST.replace("70", "71"))
    again = DataFile(
        sets.path,
        sets.conversions,
        None,
        {part: DataFile(each.path, each.conversions) for part, each in sets.further.items()},
    )
    assert load(options(), again, seed=0).digest != before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("age,city,y\n1,Rome,a\n2,Rome,c\n", "in the validation set: .*'c'"),
        ("age,city,y\nold,Rome,a\n", "in the validation set: column 'age' is string"),
        ("age,city\n1,Rome\n", "in the validation set: column 'y' is not in the data"),
    ],
)
def test_an_error_says_in_which_set(sets: DataFile, content: str, said: str) -> None:
    sets.further["validation"].path.write_text(content)
    with pytest.raises(InvalidDataError, match=said) as caught:
        load(options(), sets, seed=0)
    assert caught.value.location["pointer"] == "/data/validation/uri"
    if "'c'" in said:
        assert caught.value.location["row"] == 2


def written(kind: str, path: Path, columns: dict[str, list[Any]]) -> DataFile:
    """A file of the kind, with these columns."""
    path.parent.mkdir()
    rows = list(zip(*columns.values(), strict=True))
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    else:
        pl.DataFrame(columns).write_parquet(path)
    return DataFile(path, path.parent / "converted")


def indexed(kind: str) -> FileOptions:
    """Categories by their number, 0 for what is unknown or missing."""
    index = {"kind": "category", "encoding": "index", "missing": "unknown"}
    made = sources()[kind].Options.model_validate(
        {
            "kind": kind,
            "uri": "dataset://main",
            "features": ["id", "note"],
            "label": "y",
            "columns": {"id": index, "note": index},
            "validation": {"uri": "dataset://val"},
        }
    )
    assert isinstance(made, FileOptions)
    return made


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_texts_may_be_numbers_by_chance_in_another_set(tmp_path: Path, kind: str) -> None:
    columns = {"id": ["A1", 12, 12, 2.5], "note": ["x"] * 4, "y": [0, 1, 0, 1]}
    main = written(kind, tmp_path / "main" / "rows", columns)
    further = {"id": [2.5, 14, 12], "note": [1, None, 1], "y": [0, 1, 0]}
    validation = written(kind, tmp_path / "validation" / "rows", further)
    splits = load(indexed(kind), replace(main, further={"validation": validation}), seed=0)
    known = ["", *splits.fitted.columns["id"]["vocabulary"]]
    found = splits.validation.features["features"].astype(int).tolist()
    assert [(known[id_], note) for id_, note in found] == [("2.5", 0), ("", 0), ("12", 0)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_may_all_be_missing_in_another_set(tmp_path: Path, kind: str) -> None:
    main = written(kind, tmp_path / "main" / "rows", {"id": [1, 2], "note": ["x", "y"], "y": [0, 1]})
    further = {"id": [2, 1], "note": [None, None], "y": [0, 1]}
    validation = written(kind, tmp_path / "validation" / "rows", further)
    splits = load(indexed(kind), replace(main, further={"validation": validation}), seed=0)
    assert splits.validation.features["features"][:, 1].tolist() == [0, 0]


def test_numbers_that_are_texts_in_another_set_are_refused_with_what_to_do(tmp_path: Path) -> None:
    main = written("csv", tmp_path / "main" / "rows", {"id": [1, 2], "note": ["x", "y"], "y": [0, 1]})
    further = {"id": ["A1", 2], "note": ["x", "y"], "y": [0, 1]}
    validation = written("csv", tmp_path / "validation" / "rows", further)
    with pytest.raises(InvalidDataError, match="column 'id' is string, and int64") as caught:
        load(indexed("csv"), replace(main, further={"validation": validation}), seed=0)
    assert "a letter before them" in caught.value.remedy
    assert caught.value.location == {"column": "id", "pointer": "/data/validation/uri"}


def test_a_set_that_is_not_there_is_unreachable(sets: DataFile) -> None:
    sets.further["test"].path.unlink()
    with pytest.raises(DataUnreachableError, match="dataset://test"):
        load(options(), sets, seed=0)


@pytest.mark.parametrize("other", [{"split": {"fractions": [0.5, 0.5]}}, {"validation_split": 0.5}])
def test_a_split_beside_them_is_refused_once(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**other)
    (fault,) = caught.value.errors()
    assert "leave split and validation_split out" in fault["msg"]


def test_rows_within_the_spec_have_no_further_sets() -> None:
    with pytest.raises(ValidationError, match="validation"):
        sources()["inline"].Options.model_validate(
            {"kind": "inline", "features": "a", "rows": [{"a": 1}], "validation": {"uri": "dataset://v"}}
        )
