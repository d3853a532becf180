"""The server from outside: started by its flags, asked over gRPC and HTTP, with every front there is."""

import base64
import gzip
import json
import signal

import numpy as np
import pytest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONT, leave, ones, outputs, predict_request, refusal


@pytest.fixture(scope="module", params=FRONT)
def server(request, saved_models, place, start_server, tmp_path_factory):
    """One server with the models sum (versions 1 and 2, label stable on 1), dense, text and slow."""
    store = Store(tmp_path_factory.mktemp("store"))
    for number in (1, 2):
        place(saved_models / "sum" / str(number), store.root / "sum" / str(number))
    for name in ("dense", "text", "slow"):
        place(saved_models / name, store.root / name / "1")
    models = {name: ServedModel() for name in ("dense", "text", "slow")}
    models["sum"] = ServedModel(frozenset({1, 2}), {"stable": 1})
    config = store.write_models_config(models)
    started = start_server(f"--model_config_file={config}", chosen=request.param)
    yield started
    leave(started, signal.SIGTERM, 5)


def test_grpc_predict_answers_what_the_saved_model_itself_answers(server, saved_models):
    with np.load(saved_models / "answers.npz") as answers:
        response = server.call("Predict", predict_request("dense", features=answers["rows"]))

        # Measured: 0. Another batch split or thread count could still change the order of sums.
        np.testing.assert_allclose(outputs(response)["output_0"], answers["answer"], atol=1e-7)


def test_rest_predict_answers_what_the_saved_model_itself_answers(server, saved_models):
    with np.load(saved_models / "answers.npz") as answers:
        status, document = server.post("/v1/models/dense:predict", {"instances": answers["rows"].tolist()})

        assert status == 200
        np.testing.assert_allclose(document["predictions"], answers["answer"], atol=1e-7)


def test_a_reply_carries_dense_values_and_says_which_version_answered(server):
    response = server.call("Predict", predict_request("sum", a=ones(2), b=ones(2)))

    assert (response.model_spec.name, response.model_spec.version.value) == ("sum", 2)
    assert response.model_spec.signature_name == "serving_default"
    assert list(response.outputs["y"].float_val) == [2.0] * 6
    assert response.outputs["y"].tensor_content == b""
    assert [dimension.size for dimension in response.outputs["y"].tensor_shape.dim] == [2, 3]


@pytest.mark.parametrize(
    ("chosen", "version"), [({"version": 1}, 1), ({"version": 2}, 2), ({"label": "stable"}, 1), ({}, 2)]
)
def test_a_version_is_chosen_by_number_by_label_or_as_the_latest(server, chosen, version):
    response = server.call("Predict", predict_request("sum", a=ones(), b=ones(), **chosen))

    assert response.model_spec.version.value == version
    assert outputs(response)["version"].tolist() == [version]


def test_another_signature_is_called_by_its_name(server):
    response = server.call("Predict", predict_request("sum", "double", x=np.array([1, 2**40])))

    assert outputs(response)["doubled"].tolist() == [2, 2**41]


def test_only_the_outputs_asked_for_come_back(server):
    response = server.call("Predict", predict_request("sum", a=ones(), b=ones(), output_filter=["version"]))

    assert list(response.outputs) == ["version"]


def test_value_fields_and_tensor_content_are_read_alike(server):
    request = predict_request("sum", a=ones(), b=ones())
    request.inputs["a"].tensor_content = b""
    request.inputs["a"].float_val.append(1.0)

    assert outputs(server.call("Predict", request))["y"].tolist() == [[2.0, 2.0, 2.0]]


def test_strings_go_in_and_come_out(server):
    words = np.array([b"caf\xc3\xa9", b"\xff\x00"], object)

    answer = outputs(server.call("Predict", predict_request("text", words=words)))

    assert answer["raw_bytes"].tolist() == words.tolist()


def test_rest_strings_are_text_and_names_ending_in_bytes_are_base64(server):
    coded = {"b64": base64.b64encode(b"two").decode()}

    status, document = server.post("/v1/models/text:predict", {"instances": ["one", coded]})

    expected = [
        {"raw_bytes": {"b64": "b25l"}, "upper": "ONE"},
        {"raw_bytes": {"b64": "dHdv"}, "upper": "TWO"},
    ]
    assert (status, document) == (200, {"predictions": expected})


def test_rest_columns_are_answered_as_columns(server):
    body = {"inputs": {"a": [[1, 2, 3]], "b": [[0.5, 0.25, 0]]}, "signature_name": "serving_default"}

    assert server.post("/v1/models/sum/labels/stable:predict", body) == (
        200,
        {"outputs": {"version": [1.0], "y": [[1.5, 2.25, 3.0]]}},
    )


def test_rest_rows_without_a_name_are_answered_without_a_name(server):
    body = {"signature_name": "double", "instances": [1, 2, 3]}

    assert server.post("/v1/models/sum/versions/1:predict", body) == (200, {"predictions": [2, 4, 6]})


def test_rest_takes_gzip_bodies(server):
    body = gzip.compress(json.dumps({"signature_name": "double", "inputs": [4]}).encode())

    assert server.get("/v1/models/sum:predict", "POST", body, {"content-encoding": "gzip"}) == (
        200,
        {"outputs": [8]},
    )


def test_rest_keeps_nan_and_infinity(server):
    body = {"instances": [{"a": [float("nan"), float("inf"), 1], "b": [1, 1, 1]}]}

    _, document = server.post("/v1/models/sum:predict", body)

    np.testing.assert_array_equal(document["predictions"][0]["y"], [np.nan, np.inf, 2.0])


def test_grpc_status_lists_the_versions_newest_first(server):
    request = GetModelStatusRequest()
    request.model_spec.name = "sum"

    listed = server.call("GetModelStatus", request).model_version_status

    assert [(each.version, each.state, each.status.error_code) for each in listed] == [(2, 30, 0), (1, 30, 0)]


def test_rest_status_has_versions_as_strings(server):
    version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert server.get("/v1/models/sum/versions/1") == (200, {"model_version_status": [version]})


def test_grpc_metadata_is_the_signatures(server):
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "sum"
    response = server.call("GetModelMetadata", request)
    signatures = SignatureDefMap()

    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 2
    assert sorted(signatures.signature_def) == ["double", "serving_default"]


def test_rest_metadata_is_the_signatures(server):
    status, document = server.get("/v1/models/sum/metadata")

    assert (status, document["model_spec"]["version"]) == (200, "2")
    signature = document["metadata"]["signature_def"]["signature_def"]["double"]
    assert signature["inputs"]["x"]["dtype"] == "DT_INT64"
    assert signature["inputs"]["x"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]


def test_a_tensor_whose_values_do_not_fit_its_shape_is_refused(server):
    request = predict_request("sum", a=ones(), b=ones())
    request.inputs["b"].tensor_shape.dim[0].size = 1 << 40

    assert refusal(server, "Predict", request) == (CODE.INVALID_ARGUMENT, "tensor parsing error: b")


def test_a_message_of_16_mebibytes_goes_there_and_back(server):
    rows = np.ones((1 << 20, 3), np.float32)

    response = server.call("Predict", predict_request("sum", a=rows, b=rows, output_filter=["y"]))

    assert outputs(response)["y"].sum() == 2 * rows.size


@pytest.mark.parametrize(
    "body", [b'{"instances": [[1, 2], [3]]}', b'{"inputs": [[1], [2, 3]]}', b'{"instances": [[[1]], [2]]}']
)
def test_ragged_lists_are_refused(server, body):
    status, document = server.get("/v1/models/dense:predict", "POST", body)

    assert status == 400
    assert "xpect" in document["error"]


@pytest.mark.full
def test_a_message_of_100_mebibytes_goes_there_and_back(server):
    rows = np.ones((100 * 2**20 // 12, 3), np.float32)
    request = predict_request("sum", a=rows, b=ones(), output_filter=["y"])

    response = server.call("Predict", request, timeout_s=60)

    assert outputs(response)["y"].sum(dtype=np.float64) == 2 * rows.size


def test_all_models_are_listed(server):
    status, document = server.get("/v1/models")

    assert status == 200
    assert [each["name"] for each in document["models"]] == ["dense", "slow", "sum", "text"]
    assert document["models"][2]["versions"] == [
        {"version": "2", "state": "AVAILABLE"},
        {"version": "1", "state": "AVAILABLE"},
    ]


def test_health_and_readiness_answer(server):
    assert server.get("/healthz")[0] == 200
    assert server.get("/readyz")[0] == 200
