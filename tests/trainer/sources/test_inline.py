import numpy as np
import pytest
from pydantic import ValidationError

from trainer.loading import load
from trainer.source import detect, sources
from trainer.sources import inline

ROWS = [{"a": 1, "v": [1, 2.5], "t": "x", "y": 0}, {"a": 2.5, "v": [3, 4], "y": 1}, {"a": None, "y": True}]


def options(rows, features="a", label="y", **fields):
    return inline.Options(kind="inline", rows=rows, features=features, label=label, **fields)


def test_rows_of_the_spec_are_trained_on_without_a_file():
    splits = load(options(ROWS[:2], ["a", "v"]), None, seed=0)
    assert splits.train.features["features"].tolist() == [[1, 1, 2.5], [2.5, 3, 4]]
    assert splits.train.targets["label"].tolist() == [0, 1]


def test_a_missing_key_or_null_is_a_missing_value():
    table = inline.open_table(options([*ROWS[:2], {"a": None}]), None)
    (chunk,) = table.chunks(["a", "v", "t"])
    assert np.array_equal(chunk["a"], [1, 2.5, np.nan], equal_nan=True)
    assert np.isnan(chunk["v"][2]).all()
    assert chunk["t"].tolist() == ["x", "", ""]


def test_a_name_is_no_pattern():
    table = inline.open_table(options([{"^.*$": 1, "*": [1, 2], "y": 0}]), None)
    (chunk,) = table.chunks(["*", "^.*$"])
    assert {name: values.tolist() for name, values in chunk.items()} == {"*": [[1, 2]], "^.*$": [1]}


def test_the_digest_is_that_of_the_rows_whatever_the_order_of_their_keys():
    held = options(ROWS[:2]).held
    assert held == options([dict(reversed(row.items())) for row in ROWS[:2]]).held
    assert held.digest != options(ROWS[:1]).held.digest
    assert load(options(ROWS[:2]), None, seed=0).digest == held.digest
    assert held.shapes == {"a": (), "v": (2,), "t": (), "y": ()}


@pytest.mark.parametrize(
    ("rows", "place", "message"),
    [
        (ROWS, ("rows", 2, "y"), "is a truth value, where rows before have a number"),
        ([{"a": 1}, {"a": "x"}], ("rows", 1, "a"), "is a text, where rows before have a number"),
        ([{"a": [1]}, {"a": [1, 2]}], ("rows", 1, "a"), "is a list of 2, where rows before have a list of 1"),
        ([{"a": {}}], ("rows", 0, "a"), "expected a number, a text"),
        ([{"a": float("nan")}], ("rows", 0, "a"), "expected a number"),
        ([], ("rows",), "at least 1"),
        ([{"a": 1}] * 10_001, ("rows",), "at most 10000"),
    ],
)
def test_bad_rows_are_refused_with_their_place(rows, place, message):
    with pytest.raises(ValidationError, match=message) as caught:
        options(rows)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_only_other_kinds_have_a_uri():
    for kind, source in sources().items():
        assert ("uri" in source.Options.model_fields) == (kind != "inline")
    with pytest.raises(ValidationError, match="unknown field 'uri'"):
        options([{"a": 1}], uri="dataset://x")


def test_no_file_is_inline(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert not inline.detect(b'{"kind": "inline"}', "inline")
    assert detect(tmp_path / "a.csv", "a.csv") == "csv"
