import io
import zipfile

import numpy as np
import pytest

from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.profiling import inspect
from trainer.source import DataFile
from trainer.sources import npz


def options(features="x", label="y"):
    return npz.Options(kind="npz", uri="u", features=features, label=label)


def read(options, path):
    return load(options, DataFile.of(path), seed=0).train


def archive(tmp_path, **arrays):
    path = tmp_path / "rows.npz"
    np.savez(path, **arrays)
    return path


def test_floats_become_float32_and_whole_numbers_stay(tmp_path):
    path = archive(tmp_path, x=np.ones((3, 2)), y=np.arange(3, dtype=np.int32))
    samples = read(options(), path)
    assert samples.features["features"].dtype == np.float32
    assert samples.targets["label"].dtype == np.int64


def test_flat_arrays_are_columns_of_one_input(tmp_path):
    path = archive(tmp_path, a=np.arange(3), b=np.arange(3) + 10.0, c=np.arange(3), y=np.arange(3))
    samples = read(options(features={"pair": ["a", "b"], "single": "c"}), path)
    assert samples.features["pair"].tolist() == [[0, 10], [1, 11], [2, 12]]
    assert samples.features["single"].shape == (3, 1)


@pytest.mark.parametrize(
    ("arrays", "message", "location"),
    [
        ({"x": np.ones((3, 2))}, "'y' is not in the data; it has x", {"column": "y"}),
        ({"x": np.ones((3, 2)), "y": np.ones(2)}, "array 'y' has 2 rows, 'x' has 3", {"column": "y"}),
        ({"x": np.array([[1.0], [np.nan]]), "y": np.ones(2)}, "row 2 is empty or NaN", {"row": 2}),
        ({"x": np.ones(2), "y": np.array([np.inf, 1])}, "row 1 holds inf, not a finite", {"row": 1}),
        ({"x": np.array(["a", "b"]), "y": np.ones(2)}, "row 1 holds 'a', not a number", {"row": 1}),
        ({"x": np.float32(3), "y": np.ones(2)}, "the first axis must count the rows", None),
        ({"x": np.array([{}, []], dtype=object), "y": np.ones(2)}, "x' holds Python objects", None),
    ],
)  # fmt: skip
def test_bad_archives_are_told_where_and_why(tmp_path, arrays, message, location):
    with pytest.raises(InvalidDataError, match=message) as caught:
        read(options(), archive(tmp_path, **arrays))
    said = caught.value.location or {}
    assert said.items() >= (location or {}).items()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_arrays_are_read_from_a_file_of_their_own(tmp_path, monkeypatch, save):
    x, y = np.arange(30.0).reshape(10, 3), np.arange(10)
    save(tmp_path / "rows.npz", x=np.asfortranarray(x), y=y, s=np.array([f"t{i}" for i in y]))
    monkeypatch.setattr(npz, "MOST_IN_MEMORY", 0)
    table = npz.open_table(None, DataFile.of(tmp_path / "rows.npz"))
    (chunk,) = table.chunks(["x", "y", "s"])
    assert np.array_equal(chunk["x"], x)
    assert np.array_equal(chunk["y"], y)
    assert chunk["s"].tolist() == [f"t{i}" for i in y]
    assert len(list((tmp_path / ".converted").iterdir())) == 1


@pytest.mark.parametrize("most_in_memory", [0, npz.MOST_IN_MEMORY])
def test_two_arrays_of_one_name_are_refused(tmp_path, monkeypatch, most_in_memory):
    monkeypatch.setattr(npz, "MOST_IN_MEMORY", most_in_memory)
    path = archive(tmp_path, x=np.arange(3), y=np.arange(3) + 200)
    content = io.BytesIO()
    np.save(content, np.arange(3) + 100)
    with zipfile.ZipFile(path, "a") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("x.npy", content.getvalue())
    with pytest.raises(InvalidDataError, match="array 'x' is there twice") as caught:
        npz.open_table(None, DataFile.of(path))
    assert caught.value.location == {"column": "x"}


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_a_damaged_archive_is_invalid_data(tmp_path, content):
    path = tmp_path / "rows.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidDataError):
        inspect(DataFile.of(path), "npz")


def test_a_profile_tells_shapes_statistics_and_anomalies(tmp_path):
    path = archive(tmp_path, x=np.array([[1.0, 2.0], [np.nan, 5.0]]), y=np.array([3, 3]))
    profile = inspect(DataFile.of(path), "npz")
    x, y = profile.columns
    assert (profile.rows, x.shape, x.dtype, x.missing, x.minimum, x.maximum) == (
        2,
        (2,),
        "float64",
        1,
        1.0,
        5.0,
    )
    assert (y.distinct, y.mean) == (1, 3.0)
    assert [(anomaly.column, anomaly.row) for anomaly in profile.anomalies] == [("x", 2), ("y", None)]
