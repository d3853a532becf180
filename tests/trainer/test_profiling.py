"""What a profile says of each column."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from trainer.hashing import Distinct, hashes, repeated, row_hashes
from trainer.profiling import inspect
from trainer.source import DataFile
from trainer.table import CHUNK_ROWS


@pytest.fixture
def profiled(tmp_path):
    def profile(columns):
        pl.DataFrame(columns).write_parquet(tmp_path / "rows.parquet")
        found = inspect(DataFile.of(tmp_path / "rows.parquet"), "parquet")
        return {column.name: column for column in found.columns}

    return profile


def test_numbers_are_told_by_their_moments_and_quantiles(profiled):
    values = np.random.default_rng(0).permutation(np.arange(200_000.0))
    told = profiled({"n": values})["n"]
    assert (told.kind, told.minimum, told.maximum) == ("number", 0, 199_999)
    assert told.mean == pytest.approx(values.mean())
    assert told.deviation == pytest.approx(values.std())
    # 50,000 of them are looked at: measured within 0.3 %.
    assert told.quantiles == pytest.approx(np.arange(1, 10) * 20_000, abs=2_000)
    # Within about 1 %: measured 0.4 %.
    assert told.distinct == pytest.approx(200_000, rel=0.03)


def test_numbers_that_are_missing_or_infinite_count_for_nothing(profiled):
    told = profiled({"n": [1.0, None, np.inf, 3.0], "none": [None, None, None, None]})
    assert (told["n"].missing, told["n"].mean, told["n"].maximum) == (1, 2, 3)
    assert (told["none"].missing, told["none"].mean, told["none"].quantiles) == (4, None, None)


def test_vectors_are_told_by_all_their_numbers(profiled):
    rows = np.arange(3000.0).reshape(1000, 3)
    told = profiled({"v": rows})["v"]
    assert (told.kind, told.shape, told.minimum, told.maximum, told.distinct) == (
        "vector",
        (3,),
        0,
        2999,
        None,
    )
    assert told.mean == pytest.approx(1499.5)
    assert told.quantiles[4] == pytest.approx(1499.5, abs=30)


@pytest.mark.parametrize("rows", [5, CHUNK_ROWS + 1])
def test_rows_with_nothing_in_them_are_told_as_such(tmp_path, rows):
    np.savez(tmp_path / "rows.npz", x=np.zeros((rows, 0)), y=np.zeros((rows, 2, 0), np.int64))
    found = inspect(DataFile.of(tmp_path / "rows.npz"), "npz")
    assert [(told.shape, told.kind, told.missing, told.mean) for told in found.columns] == [
        ((0,), None, 0, None),
        ((2, 0), None, 0, None),
    ]


@pytest.mark.parametrize("dtype", [pl.List(pl.Int64), pl.Array(pl.Int64, 2), pl.List(pl.UInt32)])
def test_whole_numbers_in_lists_are_as_they_are(profiled, dtype):
    told = profiled({"v": pl.Series([[1 << 24, (1 << 24) + 1], None, [5, 7]], dtype=dtype)})["v"]
    assert (told.shape, told.missing, told.maximum) == ((2,), 2, (1 << 24) + 1)


def test_texts_are_told_by_the_most_frequent(profiled):
    told = profiled({"s": ["b", "a", "b", "", "c" * 200, "a", "b"]})["s"]
    assert [(each.value, each.count) for each in told.top] == [("b", 3), ("a", 2), ("c" * 100, 1)]
    assert (told.distinct, told.missing, told.mean) == (3, 1, None)


def sentences(count):
    return [f"row {number} has a text of its own" for number in range(count)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["red", "green", "blue"] * 20, "category"),
        (["New York City USA", "San Juan de Dios"] * 30, "category"),
        ([f"id{number}" for number in range(60)], "category"),
        (sentences(60), "text"),
        (["2024-02-29", "2024-03-01T12:30:00", "", "2024-03-01 12:30:00.5+01:00"] * 15, "date"),
        (["2024-02-29", "tomorrow"] * 30, "category"),
        (["2024-02-29", "2024-13-45"] * 30, "category"),
        (["2024-02-29", "2023-02-29"] * 30, "category"),
        ([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"] * 30, "image"),
        ([b"\x00\x01", b"\xff\xd8\xff"] * 30, None),
        ([1, 2, 3] * 20, "number"),
        ([{"x": 1}] * 60, None),
        (pl.Series([None] * 60, dtype=pl.List(pl.Int64)), None),
    ],
)
def test_a_kind_is_suggested_by_content(profiled, values, kind):
    assert profiled({"c": values})["c"].kind == kind


def test_dates_are_of_kind_date(profiled):
    told = profiled({"d": pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 9), eager=True)})["d"]
    assert (told.dtype, told.kind, told.distinct) == ("date", "date", 9)


def test_the_same_file_has_the_same_profile(profiled):
    columns = {"n": np.random.default_rng(0).normal(size=100_000)}
    assert profiled(columns) == profiled(columns)


def test_different_values_are_counted_exactly_while_they_are_few():
    distinct = Distinct()
    for start in range(0, 16_000, 1000):
        distinct.see(hashes(np.arange(start, start + 2000) % 16_000))
    assert distinct.count == 16_000


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100_000),
        np.arange(100_000) / 8,
        np.arange(200_000, dtype=np.float32).reshape(-1, 2),
        np.arange(100_000)[::-1].astype(str).astype(object),
        np.stack([np.arange(100_000) % 317, np.arange(100_000) // 317], axis=1).astype(float),
    ],
    ids=["whole", "halves", "pairs", "texts", "few in each place"],
)
def test_different_rows_have_different_hashes(values):
    assert len(np.unique(hashes(values))) == len(values)
    assert len(repeated(row_hashes([hashes(values), hashes(np.zeros(len(values)))]))) == 0


def test_rows_with_nothing_in_them_are_the_same():
    assert len(set(hashes(np.zeros((5, 0))).tolist())) == 1
    assert len(hashes(np.zeros((0, 3)))) == 0


def test_zero_is_zero_and_places_matter():
    assert hashes(np.array([0.0]))[0] == hashes(np.array([-0.0]))[0]
    assert hashes(np.array([[1, 2]]))[0] != hashes(np.array([[2, 1]]))[0]
    assert repeated(np.array([5, 7, 5, 5], np.uint64)).tolist() == [2, 3]
