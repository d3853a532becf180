import concurrent.futures
from dataclasses import replace

import pytest

from tests.resume.cases import CHECKPOINT_EVERY, EPOCHS, cases
from tests.resume.runs import at_step, in_checkpoint, run

# The kill in an epoch, and the steps that are done again.
KILLS = {
    # With fewer CPUs than before, TensorFlow would compute other last bits of this model.
    "between two checkpoints, on to one CPU": (
        lambda epoch: replace(at_step(epoch, CHECKPOINT_EVERY + 3), move=True),
        3,
    ),
    # Of an epoch's three checkpoints the second, at step 14.
    "half-way through a checkpoint": (
        lambda epoch: in_checkpoint(3 * (epoch - 1) + 2, "arrays"),
        CHECKPOINT_EVERY,
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The end of a convolutional network's training: undisturbed, and killed in its last epoch.

    Only there early stopping has waited for an epoch already, and has the weights of the best.
    """
    folder = tmp_path_factory.mktemp("resume")
    cnn = next(case for case in cases(folder) if case.name == "cnn")
    undisturbed = run(cnn, folder / "undisturbed")

    def killed(name):
        return name, run(cnn, folder / name, [KILLS[name][0](undisturbed.epochs)])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return {"undisturbed": undisturbed} | dict(pool.map(killed, KILLS))


def test_early_stopping_has_something_to_remember(outcomes):
    # It ended training by itself, so the best epoch is not the last.
    assert 2 < outcomes["undisturbed"].epochs < EPOCHS


@pytest.mark.parametrize("where", KILLS)
def test_a_killed_run_ends_with_the_bits_and_the_curves_of_an_undisturbed_one(outcomes, where):
    killed, undisturbed = outcomes[where], outcomes["undisturbed"]
    assert killed.same_weights(undisturbed)
    assert killed.same_curves(undisturbed)


@pytest.mark.parametrize("where", KILLS)
def test_no_step_before_the_last_checkpoint_is_done_again(outcomes, where):
    assert outcomes[where].again == KILLS[where][1]
    assert outcomes["undisturbed"].again == 0
