import gzip
import json

import numpy as np
import pytest

from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.profiling import inspect
from trainer.source import DataFile, detect
from trainer.sources import jsonl


def options(features="a", label="y", **fields):
    return jsonl.Options(kind="jsonl", uri="u", features=features, label=label, **fields)


@pytest.fixture
def file(tmp_path):
    def write(*rows, name="rows.jsonl", pack=bytes):
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (tmp_path / name).write_bytes(pack(b"\n".join(lines)))
        return DataFile.of(tmp_path / name)

    return write


def columns(file):
    table = jsonl.open_table(None, file)
    names = [name for name, field in table.fields.items() if field.dtype != "other"]
    chunks = list(table.chunks(names))
    return {name: np.concatenate([chunk[name] for chunk in chunks]).tolist() for name in names}


def test_objects_are_rows_and_keys_are_columns(file):
    samples = load(
        options(["a", "b"]), file({"a": 1, "b": 2.5, "y": 0}, {"a": 3, "b": 4, "y": 1}), seed=0
    ).train
    assert samples.features["features"].tolist() == [[1, 2.5], [3, 4]]
    assert samples.targets["label"].dtype == np.int64


def test_a_missing_key_is_a_missing_value(file):
    read = columns(file({"t": "x"}, {"n": 1}, {"n": None, "t": "z"}, b"", b"{}"))
    assert read["t"] == ["x", "", "z", ""]
    assert np.array_equal(read["n"], [np.nan, 1, np.nan, np.nan], equal_nan=True)


def test_lists_of_numbers_are_vectors(file):
    samples = load(options(), file({"a": [1, 2], "y": 0}, {"a": [3.5, 4], "y": 1}), seed=0).train
    assert samples.features["features"].tolist() == [[1, 2], [3.5, 4]]


def test_a_list_of_another_length_is_told_by_its_row(file):
    with pytest.raises(InvalidDataError, match="row 3 is no list of 2 numbers") as caught:
        columns(file({"a": [1, 2]}, {}, {"a": [1]}))
    assert caught.value.location == {"row": 3, "column": "a"}


def test_a_list_with_a_gap_misses_a_number(file):
    assert np.array_equal(columns(file({"a": [1, None]}))["a"], [[1, np.nan]], equal_nan=True)


def test_nested_objects_are_told_of_and_not_read(file):
    saved = file({"o": {"x": 1}, "y": 1})
    assert [(each.name, each.dtype) for each in inspect(saved, "jsonl").columns] == [
        ("o", "other"),
        ("y", "int64"),
    ]
    with pytest.raises(InvalidDataError, match="column 'o' holds"):
        load(options("o"), saved, seed=0)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("rows.ndjson", bytes), ("upload", bytes), ("rows.jsonl.gz", gzip.compress), ("upload", gzip.compress)],
)
def test_it_is_known_by_name_and_by_content_and_no_csv(file, name, pack):
    saved = file({"a": 1, "b": 2}, {"a": 2, "b": 2}, name=name, pack=pack)
    assert detect(saved.path, name) == "jsonl"
    assert columns(saved)["a"] == [1, 2]


def test_blocks_are_of_one_type_each_column(file, monkeypatch):
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 1)
    read = columns(
        file({"a": 1}, {"a": 2.5, "s": 1}, {"v": [1]}, {"s": "x", "v": [0.5], "o": {"x": 1}}, {"o": {"z": 2}})
    )
    assert np.array_equal(read["a"], [1, 2.5] + [np.nan] * 3, equal_nan=True)
    assert read["s"] == ["", "1", "", "x", ""]
    assert np.array_equal(read["v"], [[np.nan], [np.nan], [1], [0.5], [np.nan]], equal_nan=True)


@pytest.mark.parametrize("block_bytes", [jsonl.BLOCK_BYTES, 1])
@pytest.mark.parametrize(
    ("rows", "message", "location"),
    [
        (({"a": 1}, b'{"a": 2'), "line 2 is no JSON", {"row": 2}),
        (({"a": 1}, b'{"a": NaN}'), "NaN is no number in JSON", {"row": 2}),
        (({"a": 1}, b"", b"[1, 2]"), r"line 3 is no JSON object but \[1, 2\]", {"row": 3}),
        (({"a": 1}, b'{"a": "\xff"}'), "line 2 is no JSON: .*0xff", {"row": 2}),
        (({"a": 1}, {"a": True}), "True is a truth value", {"row": 2, "column": "a"}),
        (({"a": [1]}, {}, {"a": 2}), "2 is a number", {"row": 3, "column": "a"}),
        ((b"", b" "), "the file is empty", None),
    ],
)
def test_bad_lines_are_told_by_their_number(file, monkeypatch, block_bytes, rows, message, location):
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
    saved = file(*rows)
    with pytest.raises(InvalidDataError, match=message) as caught:
        jsonl.open_table(None, saved)
    assert caught.value.location == location
    assert not list(saved.conversions.iterdir())
