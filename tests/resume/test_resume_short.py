import concurrent.futures

import pytest

from tests.resume.cases import CHECKPOINT_EVERY, cases
from tests.resume.runs import at_step, in_checkpoint, in_validation, run

KILLS = {
    "between two checkpoints": ([at_step(2, CHECKPOINT_EVERY + 3)], 3),
    "in validation": ([in_validation(2)], 15 - 2 * CHECKPOINT_EVERY),
    # The fifth checkpoint is the one at step 14 of the second epoch.
    "half-way through a checkpoint": ([in_checkpoint(5, "arrays")], CHECKPOINT_EVERY),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The end of a convolutional network's training, undisturbed and after each kill."""
    folder = tmp_path_factory.mktemp("resume")
    cnn = next(case for case in cases(folder) if case.name == "cnn")
    runs = {"undisturbed": []} | {name: kills for name, (kills, _) in KILLS.items()}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(lambda name: run(cnn, folder / name, runs[name]), runs), strict=True))


@pytest.mark.parametrize("where", KILLS)
def test_a_killed_run_ends_with_the_bits_and_the_curves_of_an_undisturbed_one(outcomes, where):
    killed, undisturbed = outcomes[where], outcomes["undisturbed"]
    assert killed.same_weights(undisturbed)
    assert killed.same_curves(undisturbed)


@pytest.mark.parametrize("where", KILLS)
def test_no_step_before_the_last_checkpoint_is_done_again(outcomes, where):
    assert outcomes[where].again == KILLS[where][1]
    assert outcomes["undisturbed"].again == 0
