import pytest

from serving import statuses
from serving.errors import Code, RequestError
from serving.statuses import State, VersionStatus

START, LOADING, AVAILABLE, UNLOADING, END = State


def told(state, error="", code=None, number=1):
    return {"m": [VersionStatus(number, state, error, code)]}


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (AVAILABLE, AVAILABLE, AVAILABLE),
        (AVAILABLE, LOADING, LOADING),
        (LOADING, START, START),
        (AVAILABLE, UNLOADING, UNLOADING),
        (AVAILABLE, END, UNLOADING),
        (UNLOADING, END, UNLOADING),
        (END, END, END),
        (LOADING, END, LOADING),
    ],
)
def test_a_version_is_available_when_every_process_has_it(first, second, together):
    for processes in ([told(first), told(second)], [told(second), told(first)]):
        assert statuses.merged(processes) == told(together)


def test_an_error_of_one_process_is_told():
    failed = told(END, "damaged", Code.DATA_LOSS)

    assert statuses.merged([told(AVAILABLE), failed]) == failed


@pytest.mark.parametrize(
    ("state", "together"), [(AVAILABLE, START), (LOADING, START), (UNLOADING, UNLOADING), (END, END)]
)
def test_a_process_that_has_not_heard_of_a_version_has_yet_to_begin(state, together):
    assert statuses.merged([told(state), {}]) == told(together)


def test_all_models_and_versions_are_listed_newest_first():
    first = {"b": [VersionStatus(1, END)], "a": []}
    second = {"b": [VersionStatus(2, AVAILABLE), VersionStatus(1, END)]}

    together = statuses.merged([first, second])

    assert list(together) == ["a", "b"]
    assert [(each.number, each.state) for each in together["b"]] == [(2, START), (1, END)]


def test_one_process_is_told_as_it_is():
    assert statuses.merged([told(LOADING)]) == told(LOADING)


def test_states_travel_to_another_process_as_json():
    told_ = {**told(END, "damaged", Code.NOT_FOUND), "n": []}

    assert statuses.from_json(statuses.to_json(told_)) == told_


def test_what_is_not_there_is_not_found():
    with pytest.raises(RequestError, match="Could not find version 2 of model m"):
        statuses.select(told(AVAILABLE), "m", 2)
    with pytest.raises(RequestError, match="Could not find any versions of model x"):
        statuses.select(told(AVAILABLE), "x")
