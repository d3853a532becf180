"""Requests that share a call: which may, what they get, and that nobody notices a neighbour."""

import asyncio

import numpy as np
import pytest

from serving import batching_parameters
from serving.batch_queue import PROOFS
from serving.batching_parameters import BatchingParameters
from serving.config_file import ModelSettings
from serving.dataplane import DataPlane, Target
from serving.errors import Code, FlagError, RequestError
from serving.lifecycle import Models
from serving.loader import LoadOptions, load


@pytest.fixture(scope="module")
def models(saved_models, place, tmp_path_factory, undetermined):
    base = tmp_path_factory.mktemp("batching")
    place(saved_models / "apart", base / "apart" / "1")
    kept = Models(lambda path: load(path, LoadOptions()))
    kept.configure([ModelSettings("apart", base / "apart")])
    kept.reconcile()
    yield kept
    kept.close()


class Asking:
    """Asks a data plane on one event loop; `rows` are those of each call of the model in the last turn."""

    def __init__(self, models, servable, monkeypatch):
        self.models, self.rows, run = models, [], servable.run

        def counted(plan, inputs):
            self.rows.append(len(inputs["x"]))
            return run(plan, inputs)

        monkeypatch.setattr(servable, "run", counted)

    def __call__(self, signature, *arrays, turns=PROOFS + 1, parameters=None):
        """Ask for all arrays at once, so many times; return the last answers or errors."""
        plane = DataPlane(self.models, lambda _: None, threads=2, batching_parameters=parameters)

        async def one(array):
            with plane.lease(Target("apart")) as lease:
                (y,) = await plane.run(lease, lease.servable.plan(signature, ["x"], ()), {"x": array})
                return y.tolist()

        async def all_turns():
            for _ in range(turns):
                self.rows.clear()
                answers = await asyncio.gather(*map(one, arrays), return_exceptions=True)
            return answers

        return asyncio.run(all_turns())


@pytest.fixture
def ask(models, monkeypatch):
    with models.lease("apart") as lease:
        yield Asking(models, lease.servable, monkeypatch)


def rows(*values):
    return np.array(values, np.float32).reshape(-1, 1)


def flat(*values):
    return np.array(values, np.float32)


def test_signatures_without_state_and_with_a_batch_axis_may_share_a_call(models):
    with models.lease("apart") as lease:
        assert lease.servable.row_wise == {"square", "centre"}


def test_the_saved_model_of_keras_may_share_a_call(saved_models):
    servable = load(saved_models / "dense", LoadOptions())

    assert "serving_default" in servable.row_wise
    servable.close()


def test_what_waits_together_is_answered_by_one_call(ask):
    assert ask("square", rows(1), rows(2, 3), rows(4)) == [[[1]], [[4], [9]], [[16]]]
    assert ask.rows == [4]


def test_one_alone_goes_alone(ask):
    assert ask("square", rows(5)) == [[[25]]]
    assert ask.rows == [1]


def test_rows_of_another_shape_go_in_a_call_of_their_own(ask):
    assert ask("square", flat(1, 2)[None], rows(3), rows(4)) == [[[1, 4]], [[9]], [[16]]]
    assert ask.rows == [1, 2]


def test_a_failing_row_fails_no_neighbour(ask):
    one, failed, other = ask("square", rows(1), rows(-1), rows(2))

    assert (one, other) == ([[1]], [[4]])
    assert isinstance(failed, RequestError)
    assert failed.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("signature", ["count", "noise", "total"])
def test_a_graph_with_state_or_without_a_batch_axis_is_called_for_each(ask, signature):
    ask(signature, flat(1), flat(2))

    assert ask.rows == [1, 1]


def test_a_graph_that_mixes_rows_is_found_out_and_called_for_each(ask):
    for turns in (1, 2, 5):
        assert ask("centre", flat(1), flat(2), turns=turns) == [[0], [0]]
    assert ask.rows == [1, 1]


def test_batching_parameters_bound_a_batch(ask):
    parameters = BatchingParameters(max_batch_size=3)

    assert ask("square", *map(rows, range(4)), parameters=parameters) == [[[0]], [[1]], [[4]], [[9]]]
    assert ask.rows == [3, 1]


def test_a_batch_is_filled_up_to_an_allowed_size(ask):
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4, 8))

    assert ask("square", rows(2), rows(3), parameters=parameters) == [[[4]], [[9]]]
    assert ask.rows == [4]


def test_rows_of_unlike_lengths_are_padded_by_their_first_element_where_asked_for(ask):
    parameters = BatchingParameters(pad_variable_length_inputs=True)

    # Padded rows answer otherwise than alone, so nothing is left to prove here.
    answers = ask("square", flat(2)[None], flat(3, 4)[None], parameters=parameters)

    assert answers == [[[4, 4]], [[9, 16]]]
    assert ask.rows == [2]


def test_a_timeout_lets_a_batch_wait_for_more(ask):
    # The two come in one turn; the batch is full by then and waits no longer.
    parameters = BatchingParameters(max_batch_size=2, batch_timeout_micros=60_000_000)

    assert ask("square", rows(2), rows(3), parameters=parameters) == [[[4]], [[9]]]
    assert ask.rows == [2]


def test_a_request_larger_than_a_batch_is_refused_or_split(ask):
    parameters = BatchingParameters(max_batch_size=2)
    (refused,) = ask("square", rows(1, 2, 3), parameters=parameters)
    assert str(refused) == "Task size 3 is larger than maximum input batch size 2"

    split = BatchingParameters(max_batch_size=2, enable_large_batch_splitting=True)
    assert ask("square", rows(1, 2, 3), parameters=split) == [[[1], [4], [9]]]
    assert ask.rows == [2, 1]


def test_too_many_waiting_batches_are_refused(ask):
    parameters = BatchingParameters(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    with ask.models.lease("apart") as lease:
        lease.servable.recent_s = 1.0  # not quick: each call takes a thread

    answers = ask("square", rows(1), rows(2), rows(3), turns=1, parameters=parameters)

    assert answers[:2] == [[[1]], [[4]]]
    assert str(answers[2]) == "The batch scheduling queue to which this task was submitted is full"
    assert answers[2].code is Code.UNAVAILABLE


def test_any_number_of_batches_may_be_due_at_once(ask):
    parameters = BatchingParameters(max_batch_size=1, max_enqueued_batches=2000)
    with ask.models.lease("apart") as lease:
        lease.servable.recent_s = 1e-6  # quick: each call is made at once, and ends in the one before

    assert ask("square", *[rows(3)] * 2000, parameters=parameters) == [[[9]]] * 2000


def test_parameters_are_read_from_protobuf_text(tmp_path):
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 8 }, batch_timeout_micros { value: 500 }\n"
        "num_batch_threads { value: 3 } allowed_batch_sizes: 2 allowed_batch_sizes: 8\n"
        'pad_variable_length_inputs: true thread_pool_name { value: "mine" }'
    )

    assert batching_parameters.read(file) == BatchingParameters(
        max_batch_size=8,
        batch_timeout_micros=500,
        num_batch_threads=3,
        allowed_batch_sizes=(2, 8),
        pad_variable_length_inputs=True,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense: 1", "Invalid protobuf file"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "allowed_batch_sizes: 4 allowed_batch_sizes: 4",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
    ],
)
def test_parameters_that_make_no_sense_are_refused(tmp_path, text, reason):
    file = tmp_path / "batching.config"
    file.write_text(text)

    with pytest.raises(FlagError, match=reason):
        batching_parameters.read(file)


@pytest.mark.usefixtures("undetermined")
def test_a_version_may_bring_parameters_of_its_own(saved_models, place, tmp_path):
    version = place(saved_models / "apart", tmp_path / "apart" / "1")
    (version / batching_parameters.PER_MODEL_FILE).write_text("max_batch_size { value: 7 }")

    servable = load(version, LoadOptions(per_model_batching=True))

    assert servable.batching == BatchingParameters(max_batch_size=7)
    servable.close()
