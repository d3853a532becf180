from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fitserve import (
    DeadlineExceededError,
    InvalidInputError,
    LoadFailedError,
    NotFoundError,
    Predictor,
    UnavailableError,
    VersionState,
    VersionStatus,
)

VALUES = {
    "float32": np.array([[1.5, -2.25], [0, np.inf]], np.float32),
    "float64": np.array([1e300, -1.1]),
    "float16": np.array([1.5, -65504], np.float16),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-32768, 32767], np.int16),
    "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1], np.int64),
    "uint8": np.array([0, 255], np.uint8),
    "uint16": np.array([0, 65535], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "bool": np.array([[True], [False]]),
    "complex64": np.array([1 + 2j, -3.5j], np.complex64),
    "complex128": np.array([[1 + 2j], [-3.5j]]),
    "string": np.array([[b"a", b""], ["é".encode(), b"\x00\xff\x00"]], object),
}


@pytest.fixture
def predictor(serving: str) -> Iterator[Predictor]:
    with Predictor(serving) as connected:
        yield connected


@pytest.mark.parametrize("form", ["", "content-"])
@pytest.mark.parametrize("dtype", VALUES)
def test_each_dtype_comes_back_from_tensorflow_equal_to_the_last_bit(predictor, dtype, form):
    prediction = predictor.predict("echo", VALUES[dtype], signature=form + dtype)

    assert prediction.output.dtype == VALUES[dtype].dtype
    np.testing.assert_array_equal(prediction.output, VALUES[dtype])


@pytest.mark.parametrize("form", ["", "content-"])
def test_bfloat16_is_float32_on_our_side_rounded_to_nearest_even(predictor, form):
    # 1 + 2**-8 lies halfway between two bfloat16 numbers; the even one is 1.
    sent = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -np.inf, np.nan], np.float32)

    prediction = predictor.predict("echo", sent, signature=f"{form}bfloat16")

    assert prediction.output.dtype == np.float32
    np.testing.assert_array_equal(prediction.output, np.float32([1, 1, 1 + 2**-6, -np.inf, np.nan]))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 1, 2)])
def test_scalars_and_empty_arrays_keep_their_shape(predictor, shape):
    prediction = predictor.predict("echo", np.zeros(shape), signature="float32")

    assert prediction.output.shape == shape


def test_lists_take_the_dtype_of_the_signature(predictor):
    prediction = predictor.predict("echo", [[1, 2, 3], [4, 5, 6]])

    assert prediction["output_0"].dtype == np.float32
    np.testing.assert_array_equal(prediction.output, np.arange(1, 7).reshape(2, 3))


def test_a_prediction_names_the_model_and_the_version_that_gave_it(predictor):
    prediction = predictor.predict("echo", [[1, 2, 3]], label="stable")

    assert (prediction.model, prediction.version, list(prediction)) == ("echo", 2, ["output_0"])


def test_an_answer_can_be_written_to(predictor):
    output = predictor.predict("echo", [[1, 2, 3]]).output
    output += 1
    assert output.tolist() == [[2, 3, 4]]


def test_only_the_outputs_asked_for_come_back(predictor):
    prediction = predictor.predict("echo", {"a": [1.0], "b": [2]}, signature="two", outputs=["b"])
    assert list(prediction) == ["b"]


def test_several_outputs_have_no_single_one(predictor):
    prediction = predictor.predict("echo", {"a": [1.0], "b": [2]}, signature="two")
    with pytest.raises(InvalidInputError, match="a, b"):
        _ = prediction.output


RAW_ROWS = [
    {"age": 31, "city": "Rome", "rooms": 3},
    {"city": "Łódź", "rooms": 2},
    {"age": None, "city": b"\xff", "rooms": 1},
    {"age": 7.5, "rooms": 0},
]


@pytest.mark.parametrize(
    "inputs",
    [
        RAW_ROWS,
        {"age": [31, None, None, 7.5], "city": ["Rome", "Łódź", b"\xff", None], "rooms": [3, 2, 1, 0]},
    ],
    ids=["rows", "columns"],
)
def test_raw_rows_go_as_they_are_and_what_is_missing_by_the_signature(predictor, inputs):
    prediction = predictor.predict("echo", inputs, signature="raw")

    np.testing.assert_array_equal(prediction["age"], np.float32([31, np.nan, np.nan, 7.5]))
    assert prediction["city"].tolist() == [[b"Rome"], ["Łódź".encode()], [b"\xff"], [b""]]
    assert prediction["rooms"].tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*RAW_ROWS, {"age": 1}], "input 'rooms': row 5 has no value, and int64 can't say so"),
        ([{**RAW_ROWS[0], "citty": "Rome"}], "unknown input 'citty', did you mean 'city'?"),
        ([*RAW_ROWS, [1, 2]], "row 5 is no mapping"),
    ],
)
def test_a_row_that_does_not_do_is_told_by_column_and_number(predictor, rows, words):
    with pytest.raises(InvalidInputError, match=words.replace("?", r"\?")):
        predictor.predict("echo", rows, signature="raw")


@pytest.mark.parametrize(
    ("inputs", "signature", "words"),
    [
        (
            {"feature": [[1, 2, 3]]},
            "serving_default",
            ["'feature'", "did you mean 'features'?", "missing input"],
        ),
        ([[1, 2]], "serving_default", ["features: float32 (None, 3)", "shape (1, 2)"]),
        ([["a", "b", "c"]], "serving_default", ["wants float32", "Received: str"]),
        ([[1, 2], [3]], "serving_default", ["no regular array"]),
        ({"a": [1.0], "b": [1.5]}, "two", ["'b'", "wants int64", "float64"]),
        ([300], "uint8", ["300 does not fit in uint8"]),
        ([1e39], "float32", ["does not fit in float32"]),
        ([1], "string", ["wants string", "int"]),
        ([1.0], "two", ["mapping"]),
        ([1.0], "other", ["no signature 'other'", "serving_default"]),
    ],
)
def test_what_does_not_fit_is_told_before_sending(predictor, inputs, signature, words):
    with pytest.raises(InvalidInputError) as caught:
        predictor.predict("echo", inputs, signature=signature)
    assert [word for word in words if word not in str(caught.value)] == []


def test_an_unknown_output_is_refused_with_those_there_are(predictor):
    with pytest.raises(InvalidInputError, match="output_0"):
        predictor.predict("echo", [[1, 2, 3]], outputs=["probabilities"])


def test_a_new_version_with_another_signature_is_noticed(predictor):
    first = predictor.predict("moving", [1.0])

    second = predictor.predict("moving", ["text"])

    assert (first.version, second.version) == (1, 2)
    assert second.output.tolist() == [b"text"]


def test_metadata_shows_names_dtypes_and_shapes(predictor):
    found = predictor.metadata("echo")

    assert found.version == 2
    assert (
        str(found.signature())
        == "serving_default(features: float32 (None, 3)) -> output_0: float32 (None, 3)"
    )
    assert found.signature("string").inputs["x"].shape is None
    assert not any(name.startswith("__") for name in found.signatures)


def test_status_lists_versions_newest_first(predictor):
    assert predictor.status("echo") == [
        VersionStatus(2, VersionState.AVAILABLE, None),
        VersionStatus(1, VersionState.END, None),
    ]


def test_waiting_ends_when_the_version_is_available(predictor):
    assert predictor.wait_until_available("late", 1, timeout_s=20).state is VersionState.AVAILABLE


def test_waiting_for_a_version_that_cannot_be_loaded_ends_with_its_error(predictor):
    with pytest.raises(LoadFailedError, match=r"no saved_model\.pb"):
        predictor.wait_until_available("broken", 1, timeout_s=20)


def test_waiting_in_vain_ends_at_the_deadline_and_tells_what_was_seen(predictor):
    with pytest.raises(DeadlineExceededError, match="Servable not found"):
        predictor.wait_until_available("absent", timeout_s=0.2)


def test_a_model_that_is_not_there_is_not_found(predictor):
    with pytest.raises(NotFoundError, match=r"Latest\(absent\)"):
        predictor.predict("absent", [1])


def test_a_label_the_server_does_not_know_is_invalid(predictor):
    with pytest.raises(InvalidInputError, match="Unrecognized servable version label: canary"):
        predictor.predict("echo", [[1, 2, 3]], label="canary")


def test_a_version_and_a_label_at_once_are_refused(predictor):
    with pytest.raises(InvalidInputError, match="not both"):
        predictor.predict("echo", [[1, 2, 3]], version=1, label="stable")


def test_a_call_ends_at_its_deadline(predictor):
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        predictor.predict("slow", [[1, 2, 3]], timeout_s=0.3)
    assert time.monotonic() - started < 1.5


def test_a_port_where_nothing_listens_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        Predictor(f"127.0.0.1:{port}") as predictor,
        pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"),
    ):
        predictor.status("echo")
