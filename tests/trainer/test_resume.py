import errno
import os
import resource
import stat
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from trainer.resume import KEPT, Checkpoint, Checkpoints, numbered


def checkpoint(epoch, step=0, complete=False):
    arrays = numbered("model", [np.full(3, epoch), np.ones((2, 2))]) | numbered("callbacks.0", [np.zeros(1)])
    return Checkpoint(epoch, step, complete, {"history": {"loss": [0.5]}}, arrays)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_a_checkpoint_comes_back_as_it_was_saved(checkpoints):
    assert checkpoints.newest() is None
    checkpoints.save(checkpoint(3, step=5))
    found = checkpoints.newest()
    assert (found.epoch, found.step, found.complete) == (3, 5, False)
    assert found.values == {"history": {"loss": [0.5]}}
    assert [array.shape for array in found.of("model")] == [(3,), (2, 2)]
    assert [array.shape for array in found.of("callbacks.0")] == [(1,)]


def test_the_newest_is_the_furthest_and_a_complete_one_beats_its_epoch(checkpoints):
    checkpoints.save(checkpoint(9))
    checkpoints.save(checkpoint(10))
    checkpoints.save(checkpoint(10, step=7))
    assert checkpoints.newest().step == 7
    checkpoints.save(checkpoint(10, complete=True))
    assert checkpoints.newest().complete


def test_only_the_last_two_are_kept(checkpoints, tmp_path):
    for epoch in range(5):
        checkpoints.save(checkpoint(epoch))
    assert len(list((tmp_path / "checkpoints").iterdir())) == KEPT


@pytest.mark.parametrize("file", ["arrays.npz", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_checkpoint_is_passed_over(checkpoints, tmp_path, file, harm):
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    (path,) = (tmp_path / "checkpoints").glob(f"epoch-000002-*/{file}")
    content = bytearray(path.read_bytes())
    match harm:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "remove":
            path.unlink()
    assert checkpoints.newest().epoch == 1


def test_what_a_killed_writer_left_is_swept_by_the_next_attempt_alone(checkpoints, tmp_path):
    checkpoints.save(checkpoint(1))
    (tmp_path / "checkpoints" / ".tmp-1").mkdir()
    checkpoints.save(checkpoint(2))
    assert (tmp_path / "checkpoints" / ".tmp-1").exists()
    checkpoints.sweep()
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
    assert checkpoints.newest().epoch == 2


def damage(folder, name):
    """Flip a bit of that checkpoint's arrays."""
    path = folder / name / "arrays.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_each_damaged_checkpoint_is_named(checkpoints, tmp_path):
    for epoch in (1, 2):
        checkpoints.save(checkpoint(epoch))
        damage(tmp_path / "checkpoints", f"epoch-00000{epoch}-step-000000000")
    notes = []
    assert checkpoints.newest(notes.append) is None
    assert notes == [
        "checkpoint epoch-000002-step-000000000 is damaged and was passed over",
        "checkpoint epoch-000001-step-000000000 is damaged and was passed over",
    ]


def test_the_only_good_checkpoint_outlives_damaged_newer_ones(checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(3))
    damage(folder, "epoch-000003-step-000000000")
    # The next attempt goes on from 1, and is killed as well.
    Checkpoints(folder).save(checkpoint(2))
    damage(folder, "epoch-000002-step-000000000")

    resumed = Checkpoints(folder)
    assert resumed.newest().epoch == 1
    assert resumed.furthest() == "epoch-000003-step-000000000"
    resumed.save(checkpoint(1, step=5))
    assert [Checkpoints(folder).newest().step, (folder / "epoch-000001-step-000000000").exists()] == [5, True]
    resumed.save(checkpoint(2))
    resumed.save(checkpoint(3))
    assert sorted(path.name for path in folder.iterdir()) == [
        "epoch-000002-step-000000000",
        "epoch-000003-step-000000000",
    ]
    assert Checkpoints(folder).newest().epoch == 3


@pytest.fixture
def full_disk():
    """Have every file end at 20 kB, as on a disk that is full half-way through a checkpoint."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_good_checkpoints_and_nothing_else(checkpoints, tmp_path, full_disk):
    for epoch in (1, 2):
        checkpoints.save(checkpoint(epoch))
    before = sorted((tmp_path / "checkpoints").iterdir())
    full_disk()
    with pytest.raises(OSError, match="File too large") as caught:
        checkpoints.save(Checkpoint(3, arrays={"model/0": np.ones(100_000)}))
    assert caught.value.errno == errno.EFBIG
    assert sorted((tmp_path / "checkpoints").iterdir()) == before
    assert checkpoints.newest().epoch == 2


def test_everything_is_on_the_disk_before_it_has_its_name(checkpoints, tmp_path, monkeypatch):
    folder, done = tmp_path / "checkpoints", []
    fsync, rename = os.fsync, os.rename

    def fsynced(descriptor):
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        aside = "/.tmp-" in path and stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("aside" if aside else path.rpartition("/")[2])
        fsync(descriptor)

    def renamed(source, target, **folders):
        done.append("rename")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "rename", renamed)
    checkpoints.save(checkpoint(1))
    # The work folder, because the folder of the checkpoints is new in it.
    assert done[0] == tmp_path.name
    assert sorted(done[1:4]) == ["SHA256SUMS", "arrays.npz", "state.json"]
    assert done[4:] == ["aside", "rename", folder.name]


def test_what_numpy_knows_from_elsewhere_keeps_its_dtype(checkpoints):
    arrays = [np.arange(4, dtype=ml_dtypes.bfloat16), np.ones((), ml_dtypes.float8_e4m3fn), np.ones(2)]
    checkpoints.save(Checkpoint(1, arrays=numbered("model", arrays)))
    found = checkpoints.newest().of("model")
    assert [array.dtype for array in found] == [array.dtype for array in arrays]
    assert all(np.array_equal(one, other) for one, other in zip(found, arrays, strict=True))
