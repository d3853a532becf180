import numpy as np
import pytest
from pydantic import ValidationError

from trainer.arrays import ArrayTable
from trainer.errors import InvalidDataError
from trainer.splitting import SplitOptions, assign


def parts(by, fractions, rows=1000, label=None, content=None, seed=0, **options):
    content = np.arange(rows) if content is None else content
    columns = {"content": content} | ({} if label is None else {"label": label})
    options = SplitOptions(by=by, fractions=fractions, **options)
    names = [] if label is None else ["label"]
    found = assign(options, ArrayTable(columns), label=names, content=["content"], seed=seed)
    return [np.flatnonzero(found == number) for number in range(len(fractions))]


@pytest.mark.parametrize("by", ["random", "stratified", "hash"])
def test_every_row_is_in_exactly_one_part(by):
    found = parts(by, (0.7, 0.2, 0.1), label=np.arange(1000) % 3)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(1000))
    assert [len(part) / 1000 for part in found] == pytest.approx([0.7, 0.2, 0.1], abs=0.05)


def test_the_splits_own_seed_wins_over_the_jobs():
    first, second = (parts("random", (0.5, 0.5), seed=seed) for seed in (1, 2))
    assert not np.array_equal(first[0], second[0])
    table, options = ArrayTable({"x": np.arange(100)}), SplitOptions(fractions=(0.5, 0.5), seed=7)
    first, second = (assign(options, table, label=[], content=["x"], seed=seed) for seed in (1, 2))
    assert np.array_equal(first, second)


def test_a_stratified_split_keeps_the_share_of_each_class():
    label = np.array([0] * 900 + [1] * 100)
    for part in parts("stratified", (0.8, 0.1, 0.1), label=label):
        assert label[part].mean() == pytest.approx(0.1)


def test_a_hashed_row_keeps_its_side_when_rows_are_added():
    rows = np.random.default_rng(0).normal(size=(1000, 3))
    small = parts("hash", (0.8, 0.2), rows=500, content=rows[:500])
    large = parts("hash", (0.8, 0.2), rows=1000, content=rows)
    assert np.array_equal(small[1], large[1][large[1] < 500])


def test_a_continuous_label_cannot_be_stratified():
    with pytest.raises(InvalidDataError, match="needs classes"):
        parts("stratified", (0.5, 0.5), label=np.random.default_rng(0).normal(size=1000))


def test_an_empty_part_is_an_error_that_names_it():
    with pytest.raises(InvalidDataError, match="the test part of the split is empty"):
        parts("random", (0.5, 0.4, 0.1), rows=3)


@pytest.mark.parametrize("fractions", [(1.0,), (0.5, 0.4), (0.25, 0.25, 0.25, 0.25), (1.2, -0.2)])
def test_fractions_are_two_or_three_that_sum_to_one(fractions):
    with pytest.raises(ValidationError):
        SplitOptions(fractions=fractions)
