"""Labels as targets, by the columns that hold them."""

import numpy as np
import pytest

from trainer.columns import category
from trainer.errors import InvalidDataError
from trainer.table import BYTES, OTHER, Field
from trainer.targets import Targets


def targets_of(values, dtype=None, **options):
    """Learn the classes of a label of kind category, then return its targets and classes."""
    column = np.array(values, object if isinstance(values[0], str | bytes) else dtype)
    field = Field(dtype or ("string" if column.dtype == object else column.dtype.name), column.shape[1:])
    asked = {"y": category.Options(kind="category", **options)}
    targets = Targets({"label": ["y"]}, asked, {"y": field})
    targets.see({"y": column}, 1)
    targets.settle()
    return targets.read({"y": column}, 1)["label"].tolist(), targets.classes["y"]


def test_whole_numbers_are_classes_in_their_order_also_as_floats():
    assert targets_of([3, 1, 3]) == ([1, 0, 1], [1, 3])
    assert targets_of([3.0, 1.0, 3.0]) == ([1, 0, 1], [1, 3])


def test_a_vocabulary_numbers_the_classes_as_it_lists_them():
    assert targets_of(["a", "b", "a"], vocabulary=["b", "a"]) == ([1, 0, 1], ["b", "a"])


@pytest.mark.parametrize(
    ("values", "dtype", "row", "said"),
    [
        ([1.0, 1.7, 0.9], "float64", 2, "holds 1.7, a category is a whole number"),
        ([1.0, 2.0, np.inf], "float32", 3, "holds inf, a category is a whole number"),
        ([1.0, 2.0**53], "float64", 2, "holds 9007199254740992.0, beyond 2"),
        ([1, 2**63 + 1], "uint64", 2, "holds 9223372036854775809, beyond int64"),
        ([1.0, np.nan], "float64", 2, "is empty: a label must be there"),
        (["a", ""], "string", 2, "is empty: a label must be there"),
        ([[1.0, 2.0], [3.0, 0.5]], "float64", 2, "holds 0.5, a category is a whole number"),
    ],
)
def test_a_label_that_is_no_class_is_told_with_its_row(values, dtype, row, said):
    with pytest.raises(InvalidDataError, match=said) as caught:
        targets_of(values, dtype)
    assert caught.value.location == {"row": row, "column": "y"}


@pytest.mark.parametrize("dtype", [BYTES, OTHER])
def test_a_label_of_kind_category_is_a_text_or_a_whole_number(dtype):
    with pytest.raises(InvalidDataError, match=f"label 'y' holds {dtype}, a category is") as caught:
        targets_of([b"a"], dtype)
    assert caught.value.location == {"column": "y"}


def test_a_class_that_is_not_known_is_told_with_its_row():
    with pytest.raises(InvalidDataError, match=r"row 2 holds '\{c\}', which is none .* known: a, \{b\}"):
        targets_of(["a", "{c}"], vocabulary=["a", "{b}"])


def test_a_whole_number_beyond_int64_is_no_target():
    targets = Targets({"label": ["y"]}, {}, {"y": Field("uint64")})
    with pytest.raises(InvalidDataError, match="row 2 holds 9223372036854775808, beyond int64"):
        targets.read({"y": np.array([1, 2**63], np.uint64)}, 1)


def test_rows_of_a_label_without_any_value_are_refused():
    with pytest.raises(InvalidDataError, match=r"column 'y' has rows of shape \(0,\)"):
        Targets({"label": ["y"]}, {}, {"y": Field("float32", (0,))})
