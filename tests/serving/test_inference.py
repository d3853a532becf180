"""Classify, Regress and MultiInference from outside, over gRPC and HTTP, with every front there is."""

import base64
import signal

import numpy as np
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.inference import CLASSIFY, REGRESS
from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONT, leave, outputs, predict_request, refusal


@pytest.fixture(scope="module", params=FRONT)
def server(request, saved_models, place, start_server, tmp_path_factory):
    """One server with the models judge (label stable on 1) and text."""
    store = Store(tmp_path_factory.mktemp("store"))
    for name in ("judge", "text"):
        place(saved_models / name, store.root / name / "1")
    models = {"judge": ServedModel(frozenset({1}), {"stable": 1}), "text": ServedModel()}
    config = store.write_models_config(models)
    started = start_server(f"--model_config_file={config}", chosen=request.param)
    yield started
    leave(started, signal.SIGTERM, 5)


def add_example(examples, *, x=None, n=None, word=None):
    features = examples.add().features.feature
    if x is not None:
        features["x"].float_list.value.extend(x)
    if n is not None:
        features["n"].int64_list.value.append(n)
    if word is not None:
        features["word"].bytes_list.value.append(word)


def ask(kind, signature="", rows=((1.0, 2.0),), model="judge"):
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for x in rows:
        add_example(request.input.example_list.examples, x=x, word=b"first")
    return request


def multi(*tasks):
    request = MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    add_example(request.input.example_list.examples, x=(1.0, 2.0))
    return request


def classes(result):
    return [[(each.label, each.score) for each in row.classes] for row in result.classifications]


def test_classify_asks_serving_default_and_says_which_version_answered(server):
    response = server.call("Classify", ask(ClassificationRequest, rows=[(1, 2), (3, 4)]))

    assert classes(response.result) == [[("first", 1.0), ("other", 2.0)], [("first", 3.0), ("other", 4.0)]]
    assert (response.model_spec.name, response.model_spec.version.value) == ("judge", 1)
    assert response.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("classes_only", [[("first", 0.0), ("other", 0.0)]]),
        ("scores_only", [[("", 1.0), ("", 2.0)]]),
        ("native", [[("", 1.0), ("", 2.0)]]),
    ],
)
def test_classify_needs_classes_or_scores_and_no_method_name(server, signature, expected):
    assert classes(server.call("Classify", ask(ClassificationRequest, signature)).result) == expected


@pytest.mark.parametrize("signature", ["regress", "column"])
def test_regress_answers_a_number_an_example(server, signature):
    response = server.call("Regress", ask(RegressionRequest, signature, rows=[(1, 2), (3, 4)]))

    assert [each.value for each in response.result.regressions] == [3.0, 7.0]
    assert response.model_spec.signature_name == signature


def test_what_an_example_says_wins_over_the_context(server):
    request = RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "judge", "regress"
    with_context = request.input.example_list_with_context
    context = with_context.context.features.feature
    context["x"].float_list.value.extend([1, 1])
    context["n"].int64_list.value.append(10)
    add_example(with_context.examples)
    add_example(with_context.examples, x=(5, 5), n=0)

    result = server.call("Regress", request).result

    assert [each.value for each in result.regressions] == [22.0, 10.0]


def test_multi_inference_answers_every_task_in_order(server):
    request = multi(("judge", "regress", REGRESS), ("judge", "", CLASSIFY))

    regressed, classified = server.call("MultiInference", request).results

    assert [each.value for each in regressed.regression_result.regressions] == [3.0]
    assert classes(classified.classification_result) == [[("none", 1.0), ("other", 2.0)]]
    assert classified.model_spec.signature_name == "serving_default"
    assert regressed.model_spec.version.value == 1


def test_predict_answers_the_same_signatures(server):
    examples = [each.SerializeToString() for each in ask(RegressionRequest).input.example_list.examples]
    request = predict_request("judge", "regress", inputs=np.array(examples, object))

    assert outputs(server.call("Predict", request))["outputs"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (ClassificationRequest(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (ask(ClassificationRequest, model=""), CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (
            ask(ClassificationRequest, model="no"),
            CODE.NOT_FOUND,
            "Servable not found for request: Latest(no)",
        ),
        (
            ask(ClassificationRequest, "s"),
            CODE.INVALID_ARGUMENT,
            "No signature was found with the name: s",
        ),
        (ask(ClassificationRequest, rows=()), CODE.INVALID_ARGUMENT, "Input is empty."),
        (ask(ClassificationRequest, "two_inputs"), CODE.INVALID_ARGUMENT, "Expected one input Tensor."),
        (
            ask(ClassificationRequest, "three_outputs"),
            CODE.INVALID_ARGUMENT,
            "Expected one or two output Tensors, found 3",
        ),
        (
            ask(ClassificationRequest, "flat"),
            CODE.INVALID_ARGUMENT,
            "Expected Tensor shape: [batch_size num_classes] but got [1]",
        ),
        (
            ask(ClassificationRequest, "doubles"),
            CODE.INVALID_ARGUMENT,
            "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
        ),
        (
            ask(ClassificationRequest, "words"),
            CODE.INVALID_ARGUMENT,
            "Expected classes Tensor of DT_STRING. Got: DT_FLOAT",
        ),
        (
            ask(ClassificationRequest, "uneven"),
            CODE.INVALID_ARGUMENT,
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
        (
            ask(ClassificationRequest, "short"),
            CODE.INVALID_ARGUMENT,
            "Expected scores output batch size of 1. Got: 0",
        ),
        (RegressionRequest(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (ask(RegressionRequest, "s"), CODE.INVALID_ARGUMENT, "No signature was found with the name: s"),
        (ask(RegressionRequest), CODE.INVALID_ARGUMENT, "Expected one output Tensor."),
        (
            ask(RegressionRequest, "wide"),
            CODE.INVALID_ARGUMENT,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]",
        ),
        (
            ask(RegressionRequest, "short_regress"),
            CODE.INVALID_ARGUMENT,
            "Input batch size did not match output batch size: 1 vs. 0",
        ),
        (
            ask(RegressionRequest, "double_regress"),
            CODE.INVALID_ARGUMENT,
            "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE",
        ),
        (MultiInferenceRequest(), CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (
            multi(("judge", "", CLASSIFY), ("", "", REGRESS)),
            CODE.INVALID_ARGUMENT,
            "Found ModelSpec with an empty model name.",
        ),
        (
            multi(("judge", "", CLASSIFY), ("text", "", REGRESS)),
            CODE.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            multi(("judge", "", CLASSIFY), ("judge", "serving_default", CLASSIFY)),
            CODE.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            multi(("judge", "s", CLASSIFY)),
            CODE.INVALID_ARGUMENT,
            "Requested signature not found in model graph: s",
        ),
        (
            multi(("judge", "regress", REGRESS), ("judge", "other_input", REGRESS)),
            CODE.INVALID_ARGUMENT,
            "Input tensor must be the same for all Signatures.",
        ),
        (
            multi(("judge", "", "tensorflow/serving/predict")),
            CODE.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_tensorflow_servings_words(server, request_, code, text):
    method = {
        ClassificationRequest: "Classify",
        RegressionRequest: "Regress",
        MultiInferenceRequest: "MultiInference",
    }[type(request_)]

    assert refusal(server, method, request_) == (code, text)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ask(ClassificationRequest, "odd_input"), "No classification inputs found in SignatureDef: inputs {"),
        (
            ask(ClassificationRequest, "odd_outputs"),
            (
                "Expected classification signature outputs to contain at least one of "
                '"classes" or "scores". Signature was: inputs {'
            ),
        ),
        (ask(RegressionRequest, "odd_regress"), "No regression outputs found in SignatureDef: inputs {"),
        (ask(RegressionRequest, model="text"), "Expected one output Tensor."),
    ],
)
def test_a_signature_of_another_form_is_shown(server, request_, text):
    method = "Classify" if isinstance(request_, ClassificationRequest) else "Regress"

    _, details = refusal(server, method, request_)

    assert details.startswith(text)


def test_an_example_that_lacks_a_feature_is_refused_by_the_graph(server):
    request = ask(ClassificationRequest, rows=())
    add_example(request.input.example_list.examples, n=1)

    code, text = refusal(server, "Classify", request)

    assert code is CODE.INVALID_ARGUMENT
    assert "Feature: x (data type: float) is required but could not be found." in text


@pytest.mark.parametrize("path", ["judge", "judge/versions/1", "judge/labels/stable"])
def test_rest_classify_answers_pairs_of_label_and_score(server, path):
    word = {"b64": base64.b64encode(b"first").decode()}
    body = {"examples": [{"x": [1.0, 2.5], "word": word}, {"x": [3.0, 4.0], "n": 1}]}

    assert server.post(f"/v1/models/{path}:classify", body) == (
        200,
        {"results": [[["first", 1.0], ["other", 2.5]], [["none", 4.0], ["other", 5.0]]]},
    )


def test_rest_regress_takes_a_context(server):
    body = {
        "signature_name": "regress",
        "context": {"x": [0.5, 0.25], "n": True},
        "examples": [{}, {"n": 10}],
    }

    assert server.post("/v1/models/judge:regress", body) == (200, {"results": [2.75, 20.75]})


def test_rest_scores_may_be_nan_and_infinite(server):
    body = {"signature_name": "scores_only", "examples": [{"x": [float("nan"), float("-inf")]}]}

    _, document = server.post("/v1/models/judge:classify", body)

    ((label, first), (_, second)) = document["results"][0]
    assert (label, np.isnan(first), second) == ("", True, -np.inf)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"signature_name": "s", "examples": [{}]}', "No signature was found with the name: s"),
        (b'{"examples": [3]}', "Example must be JSON object but got JSON Number"),
        (b'{"context": [], "examples": [{}]}', "Example must be JSON object but got JSON Array"),
        (b'{"examples": [{"x": null}]}', "Feature: x has element with unexpected JSON type: Null"),
        (b'{"examples": [{"x": [[1]]}]}', "Feature: x has element with unexpected JSON type: Array"),
        (b'{"examples": [{"x": {"y": 1}}]}', "Feature: x has element with unexpected JSON type: Object"),
        (b'{"examples": [{"x": [1.5, 2]}]}', "Unexpected element type in feature: x expecting type: float"),
        (
            b'{"examples": [{"x": ["a", true]}]}',
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        (b'{"examples": [{"x": [1, 0.5]}]}', "Unexpected element type in feature: x expecting type: int64"),
        (
            b'{"examples": [{"x": 18446744073709551615}]}',
            "Feature: x has uint64 element. Only int64 is supported.",
        ),
        (
            b'{"examples": [{"x": 1e300}]}',
            "Cannot convert JSON value: 1e+300 to float without loss of precision.",
        ),
        (b'{"examples": [{"x": {"b64": "?"}}]}', "Unable to base64 decode"),
    ],
)
def test_a_wrong_http_request_is_refused_in_tensorflow_servings_words(server, body, text):
    assert server.get("/v1/models/judge:classify", "POST", body) == (400, {"error": text})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"signature_name": 1, "examples": [{}]}, "'signature_name' key must be a string value."),
    ],
)
def test_a_document_of_another_form_is_shown(server, body, text):
    status, document = server.post("/v1/models/judge:regress", body)

    assert status == 400
    assert document["error"].startswith("JSON Value: {")
    assert document["error"].endswith(text)


@pytest.mark.full
def test_method_names_are_checked_where_the_flag_says_so(saved_models, place, start_server, tmp_path):
    place(saved_models / "judge", tmp_path / "judge" / "1")
    server = start_server(
        f"--model_base_path={tmp_path / 'judge'}", "--enable_signature_method_name_check=true"
    )

    refused = ask(ClassificationRequest, "native", model="default")
    regress = ask(RegressionRequest, model="default")

    assert refusal(server, "Classify", refused) == (
        CODE.INVALID_ARGUMENT,
        (
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/predict"
        ),
    )
    assert refusal(server, "Regress", regress) == (
        CODE.INVALID_ARGUMENT,
        (
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            "Was: tensorflow/serving/classify"
        ),
    )
    assert server.call("Classify", ask(ClassificationRequest, model="default")).result.classifications
    leave(server, signal.SIGTERM, 5)
