from __future__ import annotations

import numpy as np

from exporter.arrays import read_arrays, write_arrays


def test_arrays_come_back_under_their_names_and_in_their_order(tmp_path):
    arrays = {
        "size": np.arange(6, dtype=np.float32).reshape(2, 3),
        "file": np.array([1, 2]),
        "a/b": np.array([[True], [False]]),
    }
    stored = read_arrays(write_arrays(tmp_path / "rows.npz", arrays))
    assert list(stored) == list(arrays)
    for name, array in arrays.items():
        assert stored[name].dtype == array.dtype
        assert np.array_equal(stored[name], array)


def test_strings_become_plain_data(tmp_path):
    arrays = {
        "objects": np.array([["no"], [b"ja"], ["\N{GREEK SMALL LETTER ALPHA}"]], dtype=object),
        "bytes": np.array([b"b", b"cd"]),
    }
    stored = read_arrays(write_arrays(tmp_path / "rows.npz", arrays))
    assert stored["objects"].tolist() == [["no"], ["ja"], ["\N{GREEK SMALL LETTER ALPHA}"]]
    assert stored["bytes"].tolist() == ["b", "cd"]


def test_bfloat16_becomes_float32_with_the_same_values(tmp_path):
    import ml_dtypes

    halves = np.array([0.5, 3.140625], dtype=ml_dtypes.bfloat16)
    stored = read_arrays(write_arrays(tmp_path / "rows.npz", {"y": halves}))["y"]
    assert stored.dtype == np.float32
    assert stored.tolist() == [0.5, 3.140625]
