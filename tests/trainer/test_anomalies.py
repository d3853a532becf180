"""What looks wrong in a data set: one made file for each, which has that and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trainer import anomalies
from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.profile import Anomaly
from trainer.profiling import inspect
from trainer.source import DataFile
from trainer.sources import csv

ROWS = 120
SPLIT = {"fractions": [0.5, 0.25, 0.25], "seed": 3}


def sound(rows: int = ROWS) -> dict[str, Any]:
    """Two numbers, a city, and classes that depend on all of them."""
    rng = np.random.default_rng(5)
    x, z = rng.normal(size=rows).round(4), rng.normal(size=rows).round(4)
    city = np.array(["Oslo", "Rome", "Bern"])[rng.integers(0, 3, rows)]
    return {"x": x, "z": z, "city": city, "y": ((x + z > 0) + (city == "Rome")).astype(int)}


@pytest.fixture
def file(tmp_path):
    def write(columns: dict[str, Any], name: str) -> Path:
        path = tmp_path / f"{name}.csv"
        pl.DataFrame(columns).write_csv(path)
        return path

    return write


def of_upload(path: Path) -> list[Anomaly]:
    return list(inspect(DataFile.of(path), "csv").anomalies)


def of_job(
    path: Path, features=("x", "z", "city"), *, split: Any = SPLIT, last: float | None = None, **kinds: str
) -> list[Anomaly]:
    """What is told of a job on these rows; `last` of them validate, or they are split."""
    named = {"city": "category"} | kinds
    columns = {name: {"kind": kind} for name, kind in named.items() if name in {*features, "y"}}
    how = {"split": split} if last is None else {"validation_split": last}
    data = csv.Options(kind="csv", uri="u", features=list(features), label="y", columns=columns, **how)
    return list(load(data, DataFile.of(path), seed=0).anomalies)


def told(found: list[Anomaly]) -> list[tuple[str, str | None, int | None]]:
    return [(each.code.value, each.column, each.row) for each in found]


def test_a_sound_table_has_none(file):
    path = file(sound(), "sound")
    assert of_upload(path) == []
    assert of_job(path) == []


def test_missing_values(file):
    columns = sound()
    columns["z"] = [None if row in {6, 9} else value for row, value in enumerate(columns["z"])]
    (anomaly,) = of_upload(file(columns, "missing_values"))
    assert anomaly == Anomaly(code="missing_values", column="z", row=7, detail="2 missing")
    assert str(anomaly) == "column 'z', row 7: 2 missing"


def test_text_among_numbers(file):
    columns = sound()
    columns["z"] = ["n/a" if row == 4 else str(value) for row, value in enumerate(columns["z"])]
    (anomaly,) = of_upload(file(columns, "text_among_numbers"))
    assert told([anomaly]) == [("text_among_numbers", "z", 5)]
    assert "'n/a'" in anomaly.detail


@pytest.mark.parametrize("value", [3, "same", 0.5])
def test_constant_column(file, value):
    (anomaly,) = of_upload(file(sound() | {"k": [value] * ROWS}, "constant_column"))
    assert told([anomaly]) == [("constant_column", "k", None)]
    assert str(value) in anomaly.detail


@pytest.mark.parametrize(
    ("values", "spacing"),
    [
        (1_700_000_000 + 30 * np.arange(ROWS), 128),
        (20_240_101 + np.arange(ROWS) % 30, 2),
        (1e6 + sound()["x"], 0.0625),
        (-1e6 - sound()["x"], 0.0625),
    ],
)
def test_imprecise_number(file, values, spacing):
    (anomaly,) = of_upload(file(sound() | {"n": values}, "imprecise_number"))
    assert told([anomaly]) == [("imprecise_number", "n", None)]
    assert f"apart by {spacing}, " in anomaly.detail
    assert "make it a date or a category, or subtract an offset" in anomaly.detail
    assert np.spacing(np.float32(np.abs(values).max())) == spacing


@pytest.mark.parametrize(
    "values",
    [
        1_700_000_000 + 86_400 * np.arange(ROWS),
        (1 << 24) - 1 - np.arange(ROWS) % 2,
        [None if row == 3 else 10_000_000 + row % 2 for row in range(ROWS)],
        np.arange(ROWS) * 1e30,
        2000 + np.arange(ROWS) % 30 / 7,
    ],
)
def test_numbers_that_float32_tells_apart_are_precise_enough(file, values):
    found = of_upload(file(sound() | {"n": values}, "precise"))
    assert [each for each in found if each.code != "missing_values"] == []


def test_duplicated_rows(file):
    columns = {name: [*values, *values[10:13]] for name, values in sound().items()}
    (anomaly,) = of_upload(file(columns, "duplicated_rows"))
    assert told([anomaly]) == [("duplicated_rows", None, ROWS + 1)]
    assert anomaly.detail == "3 of 123 rows were there before"


def test_rows_of_few_values_are_no_duplicates(file):
    rng = np.random.default_rng(0)
    path = file({"user": rng.integers(0, 5, 500), "item": rng.integers(0, 7, 500)}, "few_values")
    assert of_upload(path) == []


def test_missing_label_is_an_error_with_its_place(file):
    columns = sound()
    columns["y"] = [None if row == 7 else value for row, value in enumerate(columns["y"].tolist())]
    with pytest.raises(InvalidDataError) as caught:
        of_job(file(columns, "missing_label"))
    assert caught.value.location == {"row": 8, "column": "y"}


def test_single_row_class(file):
    columns = sound()
    columns["y"] = [7 if row == 20 else value for row, value in enumerate(columns["y"].tolist())]
    (anomaly,) = of_job(file(columns, "single_row_class"), split=None)
    assert told([anomaly]) == [("single_row_class", "y", 21)]
    assert anomaly.detail == "7 is a class of a single row"


def test_single_row_class_of_a_label_with_names(file):
    columns = sound()
    columns["y"] = ["odd" if row == 20 else "abc"[value] for row, value in enumerate(columns["y"].tolist())]
    assert told(of_job(file(columns, "single_row_class"), split=None, y="category")) == [
        ("single_row_class", "y", 21)
    ]


def test_a_label_of_many_numbers_has_no_classes(file):
    columns = sound() | {"y": np.random.default_rng(0).integers(0, 10_000, ROWS)}
    assert of_job(file(columns, "regression")) == []


def test_unseen_category(file):
    columns = sound()
    columns["city"] = [*columns["city"][:-2], "Lima", "Kyiv"]
    (anomaly,) = of_job(file(columns, "unseen_category"), last=0.1)
    assert told([anomaly]) == [("unseen_category", "city", ROWS - 1)]
    assert anomaly.detail == "'Lima' is a category that no training row has, and 1 more such"


def test_unseen_category_of_the_label(file):
    columns = sound()
    columns["y"] = [*columns["y"][:-2], 5, 5]
    (anomaly,) = of_job(file(columns, "unseen_category"), last=0.1)
    assert told([anomaly]) == [("unseen_category", "y", ROWS - 1)]
    assert anomaly.detail == "5 is a class that no training row has"


def test_what_rows_that_are_not_looked_at_may_have_is_not_told_of(file, monkeypatch):
    columns = sound()
    columns["y"] = [7 if row in {20, ROWS - 1} else value for row, value in enumerate(columns["y"].tolist())]
    columns["city"] = [*columns["city"][: ROWS // 2], *["Lima"] * (ROWS // 2)]
    columns["part"] = ["validation" if ROWS // 2 <= row < ROWS - 20 else "train" for row in range(ROWS)]
    path, split = file(columns, "more_rows"), {"by": "column", "column": "part"}
    assert of_job(path, split=split) == []
    monkeypatch.setattr(anomalies, "MOST_ROWS", ROWS - 20)
    assert of_job(path, split=split) == []


def test_overlap_of_validation_rows_with_training_rows(file):
    columns = {name: [*values, *values[:4]] for name, values in sound().items()}
    (anomaly,) = of_job(file(columns, "overlap"), last=0.1)
    assert told([anomaly]) == [("overlap", None, ROWS + 1)]
    assert anomaly.detail == "4 of 13 validation rows have a training row's features"
    assert of_job(file(columns, "overlap"), split=None) == []


def test_overlap_of_test_rows_with_training_rows(file):
    columns = {name: [*values, *values] for name, values in sound().items()}
    found = of_job(file(columns, "overlap"))
    assert [(each.code, each.detail.split(" ")[3]) for each in found] == [
        ("overlap", "validation"),
        ("overlap", "test"),
    ]


def test_overlap_of_a_set_of_its_own_is_told_by_the_row_there(file):
    columns, other = sound(), sound(2 * ROWS)
    there = {name: [*other[name][ROWS:], *columns[name][:2]] for name in columns}
    train, test = (DataFile.of(file(each, name)) for each, name in ((columns, "train"), (there, "test")))
    data = csv.Options(kind="csv", uri="u", features=["x", "z"], label="y", test={"uri": "t"})
    (anomaly,) = load(data, replace(train, further={"test": test}), seed=0).anomalies
    assert str(anomaly) == (
        f"test set, row {ROWS + 1}: 2 of {ROWS + 2} test rows have a training row's features"
    )


def test_features_of_few_values_do_not_overlap(file):
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 5, 500), "item": rng.integers(0, 7, 500), "y": rng.integers(0, 2, 500)}
    assert of_job(file(columns, "few_values"), features=("user", "item")) == []


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("equal", lambda y: y),
        ("one_to_one", lambda y: np.array(["none", "one", "both"])[y]),
        ("correlated", lambda y: 1e6 - 0.25 * y + np.linspace(0, 1e-4, len(y))),
    ],
)
def test_leaked_label(file, name, leak):
    columns = sound()
    columns["leak"] = leak(columns["y"])
    kind = {"leak": "category"} if name == "one_to_one" else {}
    found = of_job(file(columns, f"leaked_label_{name}"), ("x", "z", "city", "leak"), **kind)
    assert told(found) == [("leaked_label", "leak", None)]
    assert "the label 'y'" in found[0].detail


def test_leaked_label_within_a_vector(tmp_path):
    from trainer.sources import npz

    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5))
    np.savez(tmp_path / "leaked_label.npz", x=x, y=3 * x[:, 3])
    options = npz.Options(kind="npz", uri="u", features="x", label="y")
    (anomaly,) = load(options, DataFile.of(tmp_path / "leaked_label.npz"), seed=0).anomalies
    assert anomaly.detail == "value 4 of each row correlates by 0.9999 or more with the label 'y'"


def test_a_label_made_of_the_only_feature_is_what_a_model_shall_learn(file):
    x = np.linspace(0, 1, ROWS)
    assert of_job(file({"x": x, "y": 2 * x + 1}, "line"), features=("x",)) == []


def test_a_key_of_each_row_says_no_label(file):
    columns = sound() | {"id": np.arange(ROWS), "y": np.random.default_rng(0).permutation(ROWS)}
    assert of_job(file(columns, "key"), ("x", "z", "id")) == []
