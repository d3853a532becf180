import numpy as np
import pytest

from trainer.errors import DataUnreachableError, InvalidDataError, ResumeError
from trainer.loading import load as load_file
from trainer.source import DataFile, detect, sources


def load(options, path, seed):
    return load_file(options, DataFile.of(path), seed)


def options(**fields):
    return sources()["npz"].Options(kind="npz", uri="u", features="x", label="y", **fields)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.arange(20, dtype=np.float64).reshape(10, 2), y=np.arange(10))
    return path


def test_a_validation_split_is_the_last_part_in_the_files_order(file):
    splits = load(options(validation_split=0.3), file, seed=0)
    assert splits.train.targets["label"].tolist() == list(range(7))
    assert splits.validation.targets["label"].tolist() == [7, 8, 9]
    assert splits.test is None


def test_three_fractions_give_a_test_part(file):
    splits = load(options(split={"fractions": [0.5, 0.3, 0.2]}), file, seed=0)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [5, 3, 2]


def test_features_and_labels_stay_together(file):
    splits = load(options(split={"fractions": [0.5, 0.5]}), file, seed=0)
    assert np.array_equal(
        splits.validation.features["features"][:, 0], 2 * splits.validation.targets["label"]
    )


def test_data_that_changed_since_a_checkpoint_are_refused(file):
    splits = load(options(), file, seed=0)
    splits.restore(splits.state())
    with pytest.raises(ResumeError, match="the data changed"):
        splits.restore(splits.state() | {"digest": "another"})


def test_a_missing_file_may_come_back(tmp_path):
    with pytest.raises(DataUnreachableError) as caught:
        load(options(), tmp_path / "absent.npz", seed=0)
    assert caught.value.code == "data_unreachable"
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [(b"a,b\n1,2\n", "upload", "csv"), (b"one\n1\n", "data.CSV", "csv")],
)
def test_text_is_recognised_by_content_or_name(tmp_path, content, name, kind):
    path = tmp_path / "upload"
    path.write_bytes(content)
    assert detect(path, name) == kind


def test_an_archive_is_recognised_without_its_name(file):
    assert detect(file, "blob") == "npz"


def test_an_unknown_format_is_told_with_the_known_ones(tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(b"\x89HDF\r\n")
    with pytest.raises(InvalidDataError, match=r"none of the data formats known: csv, .*parquet"):
        detect(path, "model.h5")
