import threading

import pytest

from serving.config_file import All, Latest, ModelSettings, Specific
from serving.errors import Code, LoadError, RequestError
from serving.lifecycle import MOST_ENDED, Models
from serving.statuses import State

LATEST = Latest()


class Loader:
    """Stands where TensorFlow does: remembers what was loaded and closed, and fails where it is told to."""

    def __init__(self):
        self.events, self.failing = [], set()

    def __call__(self, path):
        number = int(path.name)
        self.events.append(("load", number))
        if number in self.failing:
            raise LoadError("damaged", Code.DATA_LOSS)
        return Loaded(self.events, number)


class Loaded:
    def __init__(self, events, number):
        self.events, self.number = events, number

    def close(self):
        self.events.append(("close", self.number))


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def models(loader):
    return Models(loader, max_retries=1, retry_interval_s=0)


@pytest.fixture
def base(tmp_path):
    return tmp_path / "m"


def add(base, *numbers):
    for number in numbers:
        (base / str(number)).mkdir(parents=True)
        (base / str(number) / "saved_model.pb").touch()


def states(models):
    return {each.number: each.state for each in models.status("m")}


def serve(models, base, policy=LATEST, labels=()):
    models.configure([ModelSettings("m", base, policy, dict(labels))])
    models.reconcile()


def test_the_new_version_is_loaded_before_the_old_one_goes(models, loader, base):
    add(base, 1)
    serve(models, base)
    add(base, 2)

    models.reconcile()

    assert loader.events == [("load", 1), ("load", 2), ("close", 1)]
    assert states(models) == {2: State.AVAILABLE, 1: State.END}


def test_a_version_in_use_is_unloaded_only_when_its_last_request_is_answered(models, loader, base):
    add(base, 1)
    serve(models, base)
    lease = models.lease("m")
    add(base, 2)
    models.reconcile()
    assert states(models)[1] is State.UNLOADING
    assert ("close", 1) not in loader.events
    assert models.lease("m").number == 2

    with lease:
        pass
    assert models.changed.is_set()
    models.reconcile()

    assert states(models)[1] is State.END


def test_a_new_version_that_fails_leaves_the_old_one_serving_and_is_tried_again(models, loader, base):
    add(base, 1)
    serve(models, base)
    loader.failing = {2}
    add(base, 2)

    for _ in range(4):
        models.reconcile()

    assert loader.events.count(("load", 2)) == 2
    assert states(models) == {2: State.END, 1: State.AVAILABLE}
    assert models.status("m", 2)[0].error.endswith("damaged")
    assert models.lease("m").number == 1


@pytest.mark.parametrize(
    ("policy", "served"),
    [(Latest(), {3}), (Latest(2), {2, 3}), (All(), {1, 2, 3}), (Specific(frozenset({1, 9})), {1})],
)
def test_the_policy_chooses_the_versions(models, base, policy, served):
    add(base, 1, 2, 3)

    serve(models, base, policy)

    assert set(states(models)) == served


def test_only_whole_numbered_folders_count(models, base):
    add(base, 1)
    (base / "2").mkdir()
    for name in ("x3", ".staging-j-1", "4.5", "\u0665"):
        (base / name).mkdir()
        (base / name / "saved_model.pb").touch()

    serve(models, base)

    assert set(states(models)) == {1}


def test_an_emptied_base_path_unloads_and_a_missing_one_does_not(models, base, tmp_path):
    add(base, 1)
    serve(models, base)

    base.rename(tmp_path / "away")
    models.reconcile()
    assert states(models) == {1: State.AVAILABLE}

    base.mkdir()
    models.reconcile()
    assert states(models) == {1: State.END}


def test_a_label_stays_until_its_new_version_answers(models, loader, base):
    add(base, 1)
    serve(models, base, Specific(frozenset({1})), {"stable": 1})
    loader.failing = {2}
    add(base, 2)

    serve(models, base, Specific(frozenset({1, 2})), {"stable": 2})
    assert models.lease("m", label="stable").number == 1

    loader.failing = set()
    models.reconcile()
    assert models.lease("m", label="stable").number == 2


def test_a_label_that_is_no_longer_wished_for_is_gone(models, base):
    add(base, 1)
    serve(models, base, labels={"stable": 1})
    serve(models, base)

    with pytest.raises(RequestError, match="Unrecognized servable version label: stable"):
        models.lease("m", label="stable")


def test_a_version_that_was_unloaded_can_come_back(models, base):
    add(base, 1, 2)
    serve(models, base)
    serve(models, base, Specific(frozenset({1})))
    serve(models, base, Specific(frozenset({2})))

    assert states(models) == {2: State.AVAILABLE, 1: State.END}


def test_the_list_of_ended_versions_does_not_grow_for_ever(models, base):
    for number in range(1, 20):
        add(base, number)
        serve(models, base)

    assert len(states(models)) == 1 + MOST_ENDED


def test_a_model_that_is_no_longer_listed_goes(models, loader, base):
    add(base, 1)
    serve(models, base)

    models.configure([])
    models.reconcile()

    assert loader.events[-1] == ("close", 1)
    with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(m\)"):
        models.lease("m")


def test_every_change_of_a_state_is_told_at_once(loader, base):
    add(base, 1, 2)
    told, models = [], None

    def tell():
        told.append(states(models))

    models = Models(loader, on_change=tell)
    serve(models, base)
    add(base, 3)
    models.reconcile()

    assert told == [
        {2: State.LOADING},
        {2: State.AVAILABLE},
        {3: State.LOADING, 2: State.AVAILABLE},
        {3: State.AVAILABLE, 2: State.AVAILABLE},
        {3: State.AVAILABLE, 2: State.UNLOADING},
        {3: State.AVAILABLE, 2: State.END},
    ]


def test_models_none_of_whose_versions_loaded_are_refused_by_name_version_and_error(models, loader, base):
    loader.failing = {1, 2}
    add(base, 1, 2)
    serve(models, base, All())

    with pytest.raises(RequestError) as caught:
        models.check_available({"m"})

    assert caught.value.code is Code.UNKNOWN
    assert str(caught.value) == (
        "1 model(s) did not become available: {{{name: m version: 2} due to error: DATA_LOSS: damaged}, }"
    )


def test_a_model_without_versions_and_one_that_answers_are_not_refused(models, loader, base):
    serve(models, base, All())
    models.check_available({"m"})

    loader.failing = {2}
    add(base, 1, 2)
    models.reconcile()
    models.check_available({"m"})


def test_a_model_that_is_listed_again_is_tried_again(loader, base):
    models = Models(loader, max_retries=0)
    loader.failing = {1}
    add(base, 1)
    serve(models, base)
    models.configure([])
    models.reconcile()
    loader.failing = set()

    serve(models, base)

    assert states(models) == {1: State.AVAILABLE}


class Together(Loader):
    """Loads, and unloads, only when as many do so at the same time."""

    def __init__(self, parties):
        super().__init__()
        self.barrier = threading.Barrier(parties)

    def __call__(self, path):
        self.barrier.wait(5)
        servable = super().__call__(path)
        servable.close = lambda: self.barrier.wait(5)
        return servable


def test_several_models_are_loaded_at_a_time(tmp_path):
    models = Models(Together(3), load_threads=3)
    names = ("a", "b", "c")
    for name in names:
        add(tmp_path / name, 1)
    models.configure([ModelSettings(name, tmp_path / name) for name in names])

    models.reconcile()

    assert [models.lease(name).number for name in names] == [1, 1, 1]


def test_several_versions_are_unloaded_at_a_time(base):
    loader = Together(1)
    models = Models(loader, unload_threads=2)
    add(base, 1, 2)
    serve(models, base, All())
    loader.barrier = threading.Barrier(2)

    models.configure([])
    models.reconcile()

    assert states(models) == {1: State.END, 2: State.END}
