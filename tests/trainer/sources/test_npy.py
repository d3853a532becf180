import numpy as np
import pytest

from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.profiling import inspect
from trainer.source import DataFile, detect
from trainer.sources import npy


def options(features="x", label=None, **fields):
    return npy.Options(kind="npy", uri="u", features=features, label=label, **fields)


@pytest.fixture
def file(tmp_path):
    def write(array, **how):
        np.save(tmp_path / "rows.npy", array, **how)
        return DataFile.of(tmp_path / "rows.npy")

    return write


def test_a_plain_array_is_the_column_x(file):
    saved = file(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert detect(saved.path, "blob") == "npy"
    assert npy.open_table(None, saved).fields["x"].shape == (3, 4)
    assert load(options(), saved, seed=0).train.features["features"].shape == (2, 3, 4)


def test_columns_of_a_flat_table_take_the_names_given(file):
    saved = file(np.array([[1.0, 2, 0], [3, 4, 1]]))
    samples = load(options(["b", "a"], "y", column_names=["a", "b", "y"]), saved, seed=0).train
    assert samples.features["features"].tolist() == [[2, 1], [4, 3]]
    assert samples.targets["label"].tolist() == [0, 1]


def test_fields_of_a_structured_array_are_columns(file):
    dtype = [("größe", "<f4", (2,)), ("日", "U3"), ("y", ">i8")]
    rows = np.array([((1, 2), "ab", 0), ((3, 4), "", 1)], dtype=dtype)
    with pytest.warns(UserWarning, match="format 3.0"):
        saved = file(rows)
    table = npy.open_table(None, saved)
    (chunk,) = table.chunks(["y", "größe", "日"])
    assert {name: (field.dtype, field.shape) for name, field in table.fields.items()} == {
        "größe": ("float32", (2,)),
        "日": ("string", ()),
        "y": ("int64", ()),
    }
    assert chunk["größe"].tolist() == [[1, 2], [3, 4]]
    assert chunk["日"].tolist() == ["ab", ""]
    assert (chunk["y"].tolist(), chunk["y"].dtype) == ([0, 1], np.dtype("int64"))


@pytest.mark.parametrize("shape", [(70_000, 2), (5, 2, 3, 4), (7,)])
def test_an_array_in_fortran_order_has_the_same_rows(file, shape):
    rows = np.arange(np.prod(shape)).reshape(shape)
    chunks = list(npy.open_table(None, file(np.asfortranarray(rows))).chunks(["x"]))
    assert np.array_equal(np.concatenate([chunk["x"] for chunk in chunks]), rows)


def test_a_profile_counts_the_rows(file):
    assert inspect(file(np.arange(5)), "npy").rows == 5


@pytest.mark.parametrize(
    ("array", "names", "message"),
    [
        (np.array([{}, []], dtype=object), None, "holds Python objects"),
        (np.float32(1), None, "single value"),
        (np.ones((2, 3)), ("a", "b"), "2 different names; the array has the shape"),
        (np.ones((2, 2)), ("a", "a"), "1 different names"),
        (np.ones(2, dtype=[("a", "f4")]), ("a",), "names its columns itself"),
        (np.ones(2, dtype="c8"), None, "holds complex64, not numbers"),
    ],
)
def test_what_is_no_table_is_refused(file, array, names, message):
    with pytest.raises(InvalidDataError, match=message):
        npy.open_table(options(column_names=names), file(array))


@pytest.mark.parametrize("shape", [(-5,), (3, -1)])
def test_a_head_with_a_negative_size_is_refused(tmp_path, shape):
    path = tmp_path / "rows.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        file.write(bytes(80))
    with pytest.raises(InvalidDataError, match="no size is negative"):
        npy.open_table(None, DataFile.of(path))


def test_a_file_cut_short_is_told_where_it_ends(file):
    saved = file(np.ones((10, 2)))
    content = saved.path.read_bytes()
    saved.path.write_bytes(content[:-1])
    with pytest.raises(InvalidDataError, match="159 bytes of the 160") as caught:
        npy.open_table(None, saved)
    assert caught.value.location == {"byte": len(content) - 1}
