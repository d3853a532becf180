import json

import numpy as np
import pytest

from serving import json_inputs, json_outputs, json_values
from serving.errors import RequestError

FLOAT, INT32, STRING, INT64, BOOL = 1, 3, 7, 9, 10


def read(body, **dtypes):
    return json_inputs.inputs(json_values.parse(body.encode()), dtypes)


def test_rows_are_stacked_along_a_new_first_axis():
    arrays, rows = read('{"instances": [{"a": [1, 2], "b": 3}, {"a": [4, 5], "b": 6}]}', a=FLOAT, b=INT64)

    assert rows
    assert (arrays["a"].tolist(), arrays["a"].dtype) == ([[1, 2], [4, 5]], np.float32)
    assert (arrays["b"].tolist(), arrays["b"].dtype) == ([3, 6], np.int64)


def test_columns_are_taken_as_they_are():
    arrays, rows = read('{"inputs": {"a": [[1, 2]], "b": 3}}', a=FLOAT, b=INT64)

    assert not rows
    assert (arrays["a"].shape, arrays["b"].shape) == ((1, 2), ())


def test_a_single_input_needs_no_name():
    assert read('{"instances": [true, false]}', x=BOOL)[0]["x"].tolist() == [True, False]
    assert read('{"inputs": [{"b64": "/w=="}, "é"]}', x=STRING)[0]["x"].tolist() == [b"\xff", "é".encode()]


@pytest.mark.parametrize(
    ("body", "dtypes", "text"),
    [
        ("[1]", {"x": FLOAT}, "Is not object"),
        ('{"signature_name": 1}', {"x": FLOAT}, "Missing 'inputs' or 'instances' key"),
        ('{"inputs": [1], "instances": [1]}', {"x": FLOAT}, "expecting only one of 'inputs' or 'instances'"),
        ('{"instances": 1}', {"x": FLOAT}, "Excepting 'instances' to be an list/array"),
        ('{"instances": []}', {"x": FLOAT}, "No values in 'instances' array"),
        (
            '{"instances": [1]}',
            {"x": FLOAT, "y": FLOAT},
            "instances is a plain list, but expecting list of objects",
        ),
        (
            '{"inputs": [1]}',
            {"x": FLOAT, "y": FLOAT},
            "inputs is a plain value/list, but expecting an object",
        ),
        ('{"inputs": {"x": 1}}', {"x": FLOAT, "y": FLOAT}, "Missing named input: y in 'inputs' object."),
        ('{"instances": [{"z": 1}]}', {"x": FLOAT}, "JSON object: does not have named input: z"),
        (
            '{"instances": [{"x": 1}, 2]}',
            {"x": FLOAT},
            "Expecting object but got list at item 1 of input list",
        ),
        ('{"instances": [1, {"x": 2}]}', {"x": FLOAT}, "Expecting value/list but got object at item 1"),
        ('{"instances": [{"x": 1}]}', {"x": FLOAT, "y": FLOAT}, "keys must be equal to: x,y"),
        (
            '{"instances": [[1, 2], [3]]}',
            {"x": FLOAT},
            "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Exp",
        ),
        ('{"instances": [[1, 2], [[3], [4]]]}', {"x": FLOAT}, "Expecting shape [2] but got: [2,1]"),
        (
            '{"inputs": [[1], 2]}',
            {"x": FLOAT},
            "found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"inputs": [1, [2]]}', {"x": FLOAT}, "Encountered list at unexpected level: 1 expected < 1"),
        ('{"inputs": [[1, 2], [3]]}', {"x": FLOAT}, "unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": ["a"]}', {"x": FLOAT}, 'JSON Value: "a" Type: String is not of expected type: float'),
        (
            '{"inputs": [true, 1.5]}',
            {"x": FLOAT},
            "JSON Value: true Type: True is not of expected type: float",
        ),
        ('{"inputs": [null]}', {"x": FLOAT}, "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": [1.5]}', {"x": INT32}, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ('{"inputs": [4294967296]}', {"x": INT32}, "is not of expected type: int32"),
        ('{"inputs": [16777217]}', {"x": FLOAT}, "Cannot convert JSON value: 16777217 to float without loss"),
        ('{"inputs": [1e39]}', {"x": FLOAT}, "to float without loss of precision"),
        ('{"inputs": [1]}', {"x": STRING}, "JSON Value: 1 Type: Number is not of expected type: string"),
        ('{"inputs": [{"b64": "!"}]}', {"x": STRING}, "Unable to base64 decode"),
        ('{"inputs": [{"b65": "aa"}]}', {"x": STRING}, "not formatted correctly for base64 data"),
    ],
)
def test_a_document_that_does_not_fit_the_signature_is_refused(body, dtypes, text):
    with pytest.raises(RequestError) as caught:
        read(body, **dtypes)

    assert text in str(caught.value).replace("\n", "")


def test_a_million_open_brackets_are_refused():
    with pytest.raises(RequestError, match="JSON Parse error"):
        json_values.parse(b'{"inputs": ' + b"[" * 1_000_000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (1, "1.0"),
        (1e-7, "1e-07"),
        (16777216, "1.6777216e+07"),
        (np.nan, "NaN"),
        (-np.inf, "-Infinity"),
    ],
)
def test_a_float_is_written_as_short_as_it_reads_back_and_keeps_its_point(value, text):
    array = np.array([value], np.float32)

    assert f"[{text}]" in json_outputs.outputs({"y": array}, rows=False)
    np.testing.assert_array_equal(np.float32(float(text)), array[0])


def test_rows_of_several_outputs_are_objects():
    arrays = {
        "i": np.array([1, 2]),
        "s": np.array([b"a", b"\xc3\xa9"], object),
        "t": np.array([[True], [False]]),
    }

    document = json.loads(json_outputs.outputs(arrays, rows=True))

    assert document == {"predictions": [{"i": 1, "s": "a", "t": [True]}, {"i": 2, "s": "é", "t": [False]}]}


def test_outputs_without_a_common_batch_size_have_no_rows():
    with pytest.raises(RequestError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        json_outputs.outputs({"a": np.zeros(2), "b": np.zeros(3)}, rows=True)
    with pytest.raises(RequestError, match="Tensor name: a has no shape information"):
        json_outputs.outputs({"a": np.array(1.0)}, rows=True)


def test_columns_keep_scalars_and_empty_tensors():
    arrays = {"e": np.zeros((0, 2)), "s": np.array(1.5)}

    assert json.loads(json_outputs.outputs(arrays, rows=False)) == {"outputs": {"e": [], "s": 1.5}}
