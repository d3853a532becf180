"""Cells of a table, as numbers or told where they are none."""

import numpy as np
import pytest

from trainer.cells import gaps, numbers, whole
from trainer.errors import InvalidDataError


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (np.array([1.0, np.nan]), [False, True]),
        (np.array([0, 1]), [False, False]),
        (np.array([False, True]), [False, False]),
        (np.array(["", " "], object), [True, False]),
        (np.array([b"", b"\x00"], object), [True, False]),
        (np.array([["a", ""]], object), [[False, True]]),
    ],
)
def test_what_is_missing_is_nan_or_empty(values, missing):
    assert gaps(values).tolist() == missing


@pytest.mark.parametrize("value", [1e39, -1e300, 3.41e38])
def test_a_number_beyond_float32_is_told_and_does_not_become_infinite(value):
    with pytest.raises(InvalidDataError, match=r"row 8 holds .*, beyond float32 \(3.4e\+38\)") as caught:
        numbers("x", np.array([1.0, value]), 7)
    assert caught.value.location == {"row": 8, "column": "x"}
    with pytest.raises(InvalidDataError, match=r"row 8 holds .*, beyond float32"):
        numbers("x", np.array(["", str(value)], object), 7, may_miss=True)


def test_the_largest_float32_is_a_number():
    assert np.isfinite(numbers("x", np.array([float(np.finfo(np.float32).max)]), 1)).all()


def test_rows_of_texts_are_read_cell_by_cell():
    texts = np.array([["1", "2.5"], ["-3", "four"]], object)
    assert numbers("x", texts[:1], 1).tolist() == [[1.0, 2.5]]
    with pytest.raises(InvalidDataError, match="row 2 holds 'four', not a number"):
        numbers("x", texts, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
def test_whole_numbers_are_whole_in_any_dtype(dtype):
    assert whole("x", np.array([1, 0, 1], dtype), 1).dtype == np.int64
    assert whole("x", np.array([1, 0, 1], dtype), 1, may_miss=True).tolist() == [1.0, 0.0, 1.0]


def test_a_whole_number_that_floats_do_not_tell_from_the_next_is_refused_where_one_may_be_missing():
    ids = np.array([1, -(2**53) - 1])
    assert whole("x", ids, 1).tolist() == ids.tolist()
    with pytest.raises(InvalidDataError, match=r"row 2 holds -9007199254740993, beyond 2\*\*53"):
        whole("x", ids, 1, may_miss=True)
