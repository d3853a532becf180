"""What the store writes is served: by our server, or by any TensorFlow Serving.

    export FITSERVE_TEST_SERVING_ADDRESS=127.0.0.1:8500 FITSERVE_TEST_SERVING_STORE=/models
    pytest tests/serving/test_contract.py

asks another server, one of its own for these tests: its list of models is replaced. The folder must be the
same for both, a mounted one for instance; without the variable it is one of the temporary folders.
"""

import os
import time
import uuid
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from fitserve import InvalidInputError, Predictor
from service.jobs import Kind, NewJob, SlotKind
from service.records import Records
from service.served import announce, assign_aliases
from service.serving_client import ServingClient
from serving.manifest import Manifest
from serving.store import MODELS_CONFIG, ServedModel, Store
from tests.serving.asking import CODE, Calls, ones, predict_request, refusal

STATE = ModelVersionStatus.State


class Served:
    """A store, and the server that is told its models.config."""

    def __init__(self, address: str, store: Store, saved_models: Path):
        self.address, self.store, self._saved_models = address, store, saved_models
        self.calls = Calls(address)

    def new_model(self) -> str:
        """Return a name that no server has heard of."""
        return f"model-{uuid.uuid4().hex[:12]}"

    def publish(self, model: str, number: int, graph: bytes | None = None) -> None:
        """Publish the SavedModel whose answers tell the version, or something else in its place."""
        job_id = f"job_{number}"
        staging = self.store.stage(model, job_id, 1)
        for path in sorted((self._saved_models / "sum" / str(number)).rglob("*")):
            target = staging / path.relative_to(self._saved_models / "sum" / str(number))
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
        if graph is not None:
            (staging / "saved_model.pb").write_bytes(graph)
        self.store.seal(staging, Manifest(model=model, job_id=job_id))
        self.store.publish(model, job_id, 1, number)

    def serve(self, model: str, served: ServedModel) -> None:
        """Write models.config with this model alone, and tell the server."""
        self.store.write_models_config({model: served})
        self.tell()

    def tell(self) -> None:
        """Hand models.config to the server, as it would read it from the file."""
        self.calls.call("HandleReloadConfigRequest", self.config(), timeout_s=60)

    def config(self) -> ReloadConfigRequest:
        """Return what models.config says as a request."""
        request = ReloadConfigRequest()
        text_format.Parse((self.store.root / MODELS_CONFIG).read_text(), request.config)
        return request

    def states(self, model: str) -> dict[int, int]:
        """Return the state of every version; none of a model that the server doesn't know."""
        request = GetModelStatusRequest()
        request.model_spec.name = model
        try:
            told = self.calls.call("GetModelStatus", request).model_version_status
        except Exception as error:
            if getattr(error, "code", lambda: None)() is CODE.NOT_FOUND:
                return {}
            raise
        return {each.version: each.state for each in told}

    def wait_for(self, model: str, **states: int) -> None:
        """Wait until the versions (`v1=`, ...) have these states."""
        wanted = {int(name[1:]): state for name, state in states.items()}
        deadline = time.monotonic() + 30
        while {number: self.states(model).get(number) for number in wanted} != wanted:
            assert time.monotonic() < deadline, f"wanted {wanted}, has {self.states(model)}"
            time.sleep(0.05)

    def answering(self, model: str, **target: int | str) -> float:
        """Return which version answers a request, by what it answers."""
        with Predictor(self.address) as predictor:
            rows = [[0.0, 0.0, 0.0]]
            return float(predictor.predict(model, {"a": rows, "b": rows}, **target)["version"][0])


@pytest.fixture(scope="module")
def served(tmp_path_factory, saved_models, start_server):
    address = os.environ.get("FITSERVE_TEST_SERVING_ADDRESS")
    root = os.environ.get("FITSERVE_TEST_SERVING_STORE") or tmp_path_factory.mktemp("contract")
    store = Store(Path(root))
    if address is None:
        config = store.write_models_config({})
        server = start_server(f"--model_config_file={config}", chosen="auto")
        address = f"127.0.0.1:{server.port}"
    return Served(address, store, saved_models)


def test_a_published_version_answers_and_what_is_staged_is_never_seen(served):
    model = served.new_model()
    served.publish(model, 1)
    served.store.stage(model, "job_2", 1)
    served.serve(model, ServedModel())

    served.wait_for(model, v1=STATE.AVAILABLE)

    assert served.states(model).keys() == {1}
    assert served.answering(model) == 1


def test_the_latest_version_takes_over_and_the_one_before_ends(served):
    model = served.new_model()
    served.publish(model, 1)
    served.serve(model, ServedModel())
    served.wait_for(model, v1=STATE.AVAILABLE)

    served.publish(model, 2)

    served.wait_for(model, v1=STATE.END, v2=STATE.AVAILABLE)
    assert served.answering(model) == 2
    request = predict_request(model, version=1, a=ones(), b=ones())
    text = f"Servable not found for request: Specific({model}, 1)"
    assert refusal(served.calls, "Predict", request) == (CODE.NOT_FOUND, text)


def test_a_version_that_does_not_load_leaves_the_one_before_where_it_is(served):
    model = served.new_model()
    served.publish(model, 1)
    served.serve(model, ServedModel())
    served.wait_for(model, v1=STATE.AVAILABLE)

    served.publish(model, 2, graph=b"no graph")

    # TensorFlow Serving tries for minutes, as it is told by flags.
    deadline = time.monotonic() + 30
    while (state := served.states(model).get(2)) not in {STATE.LOADING, STATE.END}:
        assert time.monotonic() < deadline, state
    assert served.states(model)[1] == STATE.AVAILABLE
    assert served.answering(model) == 1


def test_named_versions_are_served_beside_each_other_and_others_are_not(served):
    model = served.new_model()
    for number in (1, 2):
        served.publish(model, number)
    served.serve(model, ServedModel(versions=frozenset({1, 2})))
    served.wait_for(model, v1=STATE.AVAILABLE, v2=STATE.AVAILABLE)
    assert [served.answering(model, version=number) for number in (1, 2)] == [1, 2]

    served.serve(model, ServedModel(versions=frozenset({1})))

    served.wait_for(model, v1=STATE.AVAILABLE, v2=STATE.END)
    assert served.answering(model) == 1


def test_a_label_moves_and_goes(served):
    model, both = served.new_model(), frozenset({1, 2})
    for number in (1, 2):
        served.publish(model, number)
    served.serve(model, ServedModel(both))
    served.wait_for(model, v1=STATE.AVAILABLE, v2=STATE.AVAILABLE)

    for number in (1, 2):
        served.serve(model, ServedModel(both, {"stable": number}))
        assert served.answering(model, label="stable") == number
    served.serve(model, ServedModel(both))

    request = predict_request(model, label="stable", a=ones(), b=ones())
    text = "Unrecognized servable version label: stable"
    assert refusal(served.calls, "Predict", request) == (CODE.INVALID_ARGUMENT, text)


def test_a_label_for_a_version_that_is_not_loaded_is_refused(served):
    model = served.new_model()
    for number in (1, 2):
        served.publish(model, number)
    served.serve(model, ServedModel(frozenset({1})))
    served.wait_for(model, v1=STATE.AVAILABLE)
    served.store.write_models_config({model: ServedModel(frozenset({1}), {"stable": 2})})

    text = (
        f"Request to assign label to version 2 of model {model}, "
        "which is not currently available for inference"
    )
    assert refusal(served.calls, "HandleReloadConfigRequest", served.config()) == (
        CODE.FAILED_PRECONDITION,
        text,
    )


def test_the_status_of_one_version_is_told_and_what_is_unknown_is_not_found(served):
    model = served.new_model()
    served.publish(model, 1)
    served.serve(model, ServedModel())
    served.wait_for(model, v1=STATE.AVAILABLE)
    request = GetModelStatusRequest()
    request.model_spec.name, request.model_spec.version.value = model, 1
    (status,) = served.calls.call("GetModelStatus", request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, STATE.AVAILABLE, 0)

    request.model_spec.version.value = 9
    text = f"Could not find version 9 of model {model}"
    assert refusal(served.calls, "GetModelStatus", request) == (CODE.NOT_FOUND, text)
    other = served.new_model()
    request = GetModelStatusRequest()
    request.model_spec.name = other
    text = f"Could not find any versions of model {other}"
    assert refusal(served.calls, "GetModelStatus", request) == (CODE.NOT_FOUND, text)


def test_a_model_that_is_no_longer_listed_is_unloaded(served):
    model = served.new_model()
    served.publish(model, 1)
    served.serve(model, ServedModel())
    served.wait_for(model, v1=STATE.AVAILABLE)

    served.store.write_models_config({})
    served.tell()

    deadline = time.monotonic() + 30
    while served.states(model).get(1, STATE.END) != STATE.END:
        assert time.monotonic() < deadline, served.states(model)
    request = predict_request(model, a=ones(), b=ones())
    text = f"Servable not found for request: Latest({model})"
    assert refusal(served.calls, "Predict", request) == (CODE.NOT_FOUND, text)


@pytest.fixture
def records(tmp_path):
    made = Records(f"sqlite:///{tmp_path / 'records.sqlite'}")
    made.database.migrate()
    yield made
    made.close()


def publish_row(records, model, number):
    """Let a job of this model publish its next version, as far as the rows know."""
    records.jobs.create(NewJob(kind=Kind.TRAIN, spec={"name": model}, name=model, seed=1))
    held = records.claims.claim_next(SlotKind.DEVICE, "worker", 30.0)
    assert records.versions.reserve(held, model) == number
    manifest = {"metrics": {}, "artifacts": []}
    assert records.versions.published(held, number=number, manifest=manifest, result={})


def test_an_alias_is_answered_by_once_its_version_is_loaded_and_by_the_one_before_until_then(served, records):
    model = served.new_model()
    serving = ServingClient(served.address)
    for number in (1, 2):
        served.publish(model, number)
        publish_row(records, model, number)

    def reconciled():
        assign_aliases(records, serving)
        announce(records, served.store)
        served.tell()

    reconciled()
    served.wait_for(model, v2=STATE.AVAILABLE)
    records.aliases.put(model, "stable", 2)
    reconciled()
    assert served.answering(model, label="stable") == 2

    records.aliases.put(model, "stable", 1)
    announce(records, served.store)
    served.tell()
    # Version 1 is wanted now, and 2 goes on being what the alias means.
    assert served.answering(model, label="stable") == 2
    served.wait_for(model, v1=STATE.AVAILABLE)
    reconciled()
    assert served.answering(model, label="stable") == 1
    assert served.answering(model) == 2

    assert records.aliases.remove(model, "stable")
    reconciled()
    served.wait_for(model, v1=STATE.END)
    with Predictor(served.address) as predictor, pytest.raises(InvalidInputError, match="stable"):
        predictor.predict(model, [[0.0]], label="stable")
    serving.close()
