import numpy as np
import pytest

from trainer.errors import ResumeError
from trainer.resume import KEPT, Checkpoint, Checkpoints, assign, numbered


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


def test_arrays_of_another_model_are_refused():
    import keras

    variable = keras.Variable(np.zeros((2, 2), np.float32))
    assign([variable], [np.ones((2, 2))], "model")
    assert np.array_equal(variable.numpy(), np.ones((2, 2)))
    with pytest.raises(ResumeError, match="model variables are not those of this spec"):
        assign([variable], [np.ones(3)], "model")
