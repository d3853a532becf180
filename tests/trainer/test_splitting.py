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


@pytest.mark.parametrize(
    ("cells", "with_more"),
    [
        (np.arange(200), [*np.arange(200.0), np.nan]),
        (np.arange(200), [*map(str, range(200)), "P77"]),
        (np.arange(200), [*(f"{number:03}" for number in range(200)), ""]),
        (np.arange(200) / 8, [*(f"{number / 8:.3f}" for number in range(200)), "?"]),
        (np.arange(200) % 2 == 0, [*["true", "False"] * 100, "maybe"]),
        (np.array([0.0, np.nan] * 100), [*["-0", ""] * 100, "none"]),
    ],
    ids=["a gap", "a text", "padded", "decimals", "truths", "zeros and gaps"],
)
def test_a_hashed_row_keeps_its_side_however_its_column_comes_to_be_read(cells, with_more):
    before = hashed({"content": cells, "number": np.arange(200)})
    after = hashed({"content": np.array(with_more), "number": np.arange(201)})
    assert np.array_equal(before, after[:200])


def hashed(columns):
    options = SplitOptions(by="hash", fractions=(0.5, 0.3, 0.2))
    return assign(options, ArrayTable(columns), label=[], content=list(columns), seed=0)


def test_the_sides_of_a_hash_stay_what_they_are():
    """A version trained again must not be tested on what it was trained on."""
    cells = {
        "number": np.arange(20) / 4,
        "text": np.array([f"patient {number}" for number in range(20)]),
        "vector": np.arange(40).reshape(20, 2),
        "pair": np.array([["a", str(number)] for number in range(20)]),
    }
    sides = {name: "".join(map(str, hashed({"content": each}).tolist())) for name, each in cells.items()}
    assert sides == {
        "number": "20211120000102000211",
        "text": "11121002122220001100",
        "vector": "00100210200200101002",
        "pair": "12001020010212011002",
    }


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


def by_column(values, **options):
    table = ArrayTable({"part": np.array(values)})
    return assign(SplitOptions(by="column", column="part", **options), table, label=[], content=[], seed=0)


def test_a_column_names_the_part_of_each_row():
    named = ["train", "Validation", " TEST ", "val", "dev", "valid", "train"]
    assert by_column(named).tolist() == [0, 1, 2, 1, 1, 1, 0]


@pytest.mark.parametrize("value", ["holdout", ""])
def test_a_row_of_no_part_is_told_with_its_place(value):
    with pytest.raises(InvalidDataError, match="row 3 belongs to no part") as caught:
        by_column(["train", "val", value])
    assert caught.value.location == {"row": 3, "column": "part"}


def test_a_column_that_names_no_validation_rows_is_refused():
    with pytest.raises(InvalidDataError, match="the validation part of the split is empty"):
        by_column(["train", "test"])


def test_with_fractions_rows_of_one_value_stay_together_when_rows_are_added():
    patients = np.arange(3000) % 300
    found = by_column(patients, fractions=(0.6, 0.2, 0.2))
    assert all(len(set(found[patients == each])) == 1 for each in range(300))
    assert np.bincount(found) / 3000 == pytest.approx([0.6, 0.2, 0.2], abs=0.1)
    assert np.array_equal(by_column(patients[:900], fractions=(0.6, 0.2, 0.2)), found[:900])


def test_rows_of_one_value_stay_where_they_are_when_one_more_is_a_text():
    patients = np.arange(200) % 50
    found = by_column(patients, fractions=(0.6, 0.2, 0.2))
    assert np.array_equal(by_column([*map(str, patients), "P77"], fractions=(0.6, 0.2, 0.2))[:200], found)


def test_a_column_that_is_not_there_is_told():
    with pytest.raises(InvalidDataError, match="column 'part' is not in the data"):
        assign(
            SplitOptions(by="column", column="part"),
            ArrayTable({"x": np.arange(3)}),
            label=[],
            content=[],
            seed=0,
        )


@pytest.mark.parametrize(
    ("options", "place", "said"),
    [
        ({"by": "column"}, "column", "required with by: column"),
        ({"by": "hash", "column": "part", "fractions": (0.5, 0.5)}, "column", "goes with by: column only"),
        ({"by": "hash"}, "fractions", "required"),
        ({}, "fractions", "required"),
    ],
)
def test_a_split_that_lacks_or_has_too_much_is_told_at_its_place(options, place, said):
    with pytest.raises(ValidationError) as caught:
        SplitOptions(**options)
    (fault,) = caught.value.errors()
    assert fault["loc"] == (place,)
    assert said in fault["msg"]
