"""Columns prepared for a model, against what Python and numpy say of the same values."""

import io
import json
import math
from datetime import date, datetime

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import ValidationError

from trainer.column import column_kinds
from trainer.columns import category
from trainer.errors import InvalidDataError
from trainer.preprocessing import Preprocessing
from trainer.table import Field

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
SMOOTH = np.stack([*np.mgrid[0:256:8, 0:256:8], np.full((32, 32), 128)], axis=2).astype(np.uint8)
TEXTS = ["Rome", "Oslo", "Rome", "Łódź", "", "東京"]


def options_of(columns):
    return {name: column_kinds()[each["kind"]].Options.model_validate(each) for name, each in columns.items()}


def fitted(columns, values, fields, inputs=None):
    made = Preprocessing(inputs or {"features": list(values)}, options_of(columns), fields)
    made.see(made.read(values, 1))
    made.settle()
    return made


def prepared(column, values, field, more=None):
    """Fit on `values`, prepare `more`, and return the one input's rows."""
    values = {"c": np.asarray(values, object if field.dtype in {"string", "bytes", "date"} else field.dtype)}
    made = fitted({"c": column}, values, {"c": field})
    wire = values if more is None else {"c": np.asarray(more, values["c"].dtype)}
    return made.prepare(made.read(wire, 1))["features"]


def test_numbers_are_standardized_by_mean_and_deviation():
    values = np.array([1.0, 4.0, 7.0, 8.0])
    found = prepared({"kind": "number"}, values, Field("float64"))
    assert found.shape == (4, 1)
    assert found.ravel() == pytest.approx((values - values.mean()) / values.std(), abs=1e-6)


def test_the_same_number_everywhere_comes_out_as_zero():
    assert prepared({"kind": "number"}, [3.0, 3.0], Field("float32")).tolist() == [[0], [0]]


@pytest.mark.parametrize(("rule", "fill"), [("mean", 4.0), ("median", 3.0), (-1.5, -1.5)])
def test_a_missing_number_is_filled_by_the_rule(rule, fill):
    column = {"kind": "number", "missing": rule, "standardize": False}
    found = prepared(column, [1.0, math.nan, 3.0, 8.0], Field("float64"))
    assert found.ravel().tolist() == [1, fill, 3, 8]


def test_a_missing_number_is_refused_unless_there_is_a_rule():
    with pytest.raises(InvalidDataError, match="column 'c', row 2 is empty or NaN") as caught:
        prepared({"kind": "number"}, [1.0, math.nan], Field("float64"))
    assert caught.value.location == {"row": 2, "column": "c"}
    assert '"missing": "mean"' in caught.value.remedy


def test_categories_are_one_hot_the_most_frequent_first_and_the_unknown_before_all():
    column = {"kind": "category", "missing": "unknown"}
    found = prepared(column, TEXTS, Field("string"), ["Rome", "Oslo", "東京", "Łódź", "Paris", ""])
    # Rome twice, then the others in the order of their code points.
    assert found.argmax(1).tolist() == [1, 2, 4, 3, 0, 0]
    assert found.sum(1).tolist() == [1] * 6


def test_an_index_is_for_an_embedding_and_stays_whole():
    column = {"kind": "category", "encoding": "index", "max_tokens": 3}
    found = prepared(column, [7, 7, 5, 5, 5, 9], Field("int64"))
    assert found.dtype == np.int64
    assert found.ravel().tolist() == [2, 2, 1, 1, 1, 0]


def test_a_vocabulary_may_be_given():
    column = {"kind": "category", "encoding": "index", "vocabulary": ["b", "a"]}
    assert prepared(column, ["a", "b", "c"], Field("string")).ravel().tolist() == [2, 1, 0]


def test_too_many_categories_are_told_with_their_column(monkeypatch):
    monkeypatch.setattr(category, "MOST_CATEGORIES", 2)
    with pytest.raises(InvalidDataError, match="column 'c' has more than 2 categories") as caught:
        prepared({"kind": "category"}, [1, 2, 3], Field("int64"))
    assert caught.value.location == {"column": "c"}


def test_a_missing_category_can_be_the_most_frequent():
    column = {"kind": "category", "encoding": "index", "missing": "most_frequent"}
    assert prepared(column, [4, math.nan, 4, 2], Field("float64")).ravel().tolist() == [1, 1, 1, 2]
    assert prepared(column, ["x", "", "x"], Field("string")).ravel().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("column", "values", "field", "said"),
    [
        ({"kind": "category"}, ["a", ""], Field("string"), "row 2 is empty"),
        ({"kind": "category"}, [1.0, 2.5], Field("float64"), "row 2 holds 2.5, a category is a whole number"),
        ({"kind": "category"}, [1.0, math.inf], Field("float64"), "row 2 holds inf, a category is a whole"),
        ({"kind": "category"}, [1, 2**63 + 1], Field("uint64"), "row 2 holds 9223372036854775809, beyond"),
        (
            {"kind": "category", "missing": "unknown"},
            [9007199254740992.0, 9007199254740993.0, math.nan],
            Field("float64"),
            "row 1 holds 9007199254740992.0, beyond 2",
        ),
        ({"kind": "text"}, ["?!", "..."], Field("string"), "column 'c' has no word in any training row"),
        (
            {"kind": "text", "output_mode": "tf_idf"},
            ["?!"],
            Field("string"),
            "column 'c' has no word in any training row",
        ),
        ({"kind": "number"}, [[1.0]], Field("float64", (1,)), "of shape .1,., not one number a row"),
        ({"kind": "date"}, ["2024-02-29", "2023-02-29"], Field("string"), "row 2 holds '2023-02-29'"),
        ({"kind": "date"}, ["2024-01-01", "01/02/2024"], Field("string"), "row 2 holds '01/02/2024'"),
        ({"kind": "date"}, ["2024-01-01", ""], Field("string"), "row 2 is empty"),
        ({"kind": "text", "missing": "error"}, ["a", ""], Field("string"), "row 2 is empty"),
        ({"kind": "number"}, ["1", "two"], Field("string"), "row 2 holds 'two', not a number"),
        (
            {"kind": "image", "image_size": [2, 2]},
            [b"GIF89a broken"],
            Field("bytes"),
            "row 1 can't be decoded",
        ),
        ({"kind": "vector"}, [1.0], Field("float32"), "a vector is a list of numbers"),
        ({"kind": "date"}, [1], Field("int64"), "not dates"),
        ({"kind": "text"}, [1], Field("int64"), "not texts"),
        (
            {"kind": "category", "vocabulary": ["a"]},
            [1],
            Field("int64"),
            "column 'c' holds whole numbers, its vocabulary lists 'a'",
        ),
    ],
)
def test_what_cannot_be_prepared_is_told_where(column, values, field, said):
    with pytest.raises(InvalidDataError, match=said) as caught:
        prepared(column, values, field)
    assert caught.value.location["column"] == "c"


@pytest.mark.parametrize("columns", [{}, {"c": {"kind": "vector"}}], ids=["as they are", "as vectors"])
def test_rows_with_nothing_in_them_are_no_feature(columns):
    with pytest.raises(InvalidDataError, match=r"column 'c' has rows of shape \(0,\)") as caught:
        Preprocessing({"features": ["c"]}, options_of(columns), {"c": Field("float32", (0,))})
    assert caught.value.location == {"column": "c"}


def test_rows_of_texts_that_are_no_numbers_are_told_with_their_row():
    made = Preprocessing({"features": ["c"]}, {}, {"c": Field("string", (2,))})
    with pytest.raises(InvalidDataError, match="row 2 holds 'b', not a number"):
        made.read({"c": np.array([["1", "2"], ["3", "b"]], object)}, 1)


@pytest.mark.parametrize(
    "given", ["20240101", "2024-W01-1", "2024-01-01T", "2024-02-30", "\uff12\uff10\uff12\uff14-01-01", 5]
)
def test_a_date_for_gaps_is_of_the_form_that_dates_have(given):
    with pytest.raises(ValidationError) as caught:
        options_of({"c": {"kind": "date", "missing": given}})
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("missing",)
    assert "as 2024-02-29 or 2024-02-29T12:30:00" in fault["msg"]


def test_a_number_for_gaps_is_one_of_float32():
    with pytest.raises(ValidationError, match="a number of float32"):
        options_of({"c": {"kind": "number", "missing": 1e39}})


def test_a_vocabulary_lists_each_value_once():
    with pytest.raises(ValidationError) as caught:
        options_of({"c": {"kind": "category", "vocabulary": ["a", "b", "a", "b"]}})
    assert [(fault["loc"], fault["msg"]) for fault in caught.value.errors()] == [
        (("vocabulary", 2), "'a' is there already, at 0"),
        (("vocabulary", 3), "'b' is there already, at 1"),
    ]


def test_dates_are_taken_apart_as_python_does():
    texts = [
        "2024-02-29",
        "1969-12-31T23:59:58",
        "2000-03-01 06:07",
        "1900-01-01T00:00:30.5Z",
        "2026-11-21T12:30+02:00",
    ]
    parts = ["month", "day", "weekday", "day_of_year", "hour", "minute", "second"]
    found = prepared({"kind": "date", "parts": parts, "encoding": "number"}, texts, Field("string"))
    for row, text in zip(found, texts, strict=True):
        t = datetime.fromisoformat(text)
        numbers = (t.month - 1, t.day - 1, t.weekday(), t.timetuple().tm_yday - 1, t.hour, t.minute, t.second)
        expected = [
            number / period for number, period in zip(numbers, (12, 31, 7, 366, 24, 60, 60), strict=True)
        ]
        assert row == pytest.approx(expected, abs=1e-6), text


def test_every_day_of_four_centuries_has_its_weekday():
    days = [
        date.fromordinal(number)
        for number in range(date(1799, 12, 1).toordinal(), date(2201, 2, 1).toordinal(), 7)
    ]
    column = {"kind": "date", "parts": ["weekday", "day_of_year"], "encoding": "number"}
    found = prepared(column, [day.isoformat() for day in days], Field("date"))
    assert np.rint(found[:, 0] * 7).astype(int).tolist() == [day.weekday() for day in days]
    assert np.rint(found[:, 1] * 366).astype(int).tolist() == [day.timetuple().tm_yday - 1 for day in days]


def test_december_is_next_to_january():
    column = {"kind": "date", "parts": ["month"]}
    january, june, december = prepared(column, ["2024-01-01", "2024-06-01", "2024-12-01"], Field("string"))
    assert np.linalg.norm(december - january) < np.linalg.norm(june - january)


def test_a_missing_date_is_the_one_that_the_rule_names_and_without_a_rule_a_request_gets_no_number():
    column = {"kind": "date", "parts": ["year", "day"], "missing": "2020-01-05"}
    with_rule = prepared(column, ["2020-01-05", "", "2024-01-01"], Field("string"))
    assert np.array_equal(with_rule[0], with_rule[1])
    made = fitted({"c": {"kind": "date"}}, {"c": np.array(["2020-01-05"], object)}, {"c": Field("string")})
    assert np.isnan(made.prepare({"c": np.array(["", "no date"], object)})["features"]).all()


def test_texts_are_cut_into_words_and_counted():
    values = ["Grün, blau", "blau blau rot"]
    words = fitted({"c": {"kind": "text"}}, {"c": np.array(values, object)}, {"c": Field("string")}).fitted
    order = [0, *(1 + words["c"]["vocabulary"].index(word) for word in ("grün", "blau", "rot"))]
    more = [*values, "gelb", ""]
    there = prepared({"kind": "text"}, values, Field("string"), more)
    assert there[:, order].tolist() == [[0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    counted = prepared({"kind": "text", "output_mode": "count"}, values, Field("string"), more)
    assert counted[:, order].tolist() == [[0, 1, 1, 0], [0, 0, 2, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_texts_become_indices_of_one_length_for_an_embedding():
    column = {"kind": "text", "output_mode": "int", "output_sequence_length": 2}
    found = prepared(column, ["blau blau rot", "blau"], Field("string"), ["Blau!", "gelb blau rot", ""])
    assert found.dtype == np.int64
    assert found.tolist() == [[2, 0], [1, 2], [0, 0]]  # 0 fills, 1 is unknown


def test_tf_idf_weighs_words_as_keras_does():
    import keras

    values = ["a b", "a c", "a b b"]
    layer = keras.layers.TextVectorization(max_tokens=100, output_mode="tf_idf")
    layer.adapt(tf.data.Dataset.from_tensor_slices(values).batch(3))
    column = {"kind": "text", "output_mode": "tf_idf", "max_tokens": 100}
    found = prepared(column, values, Field("string"), [*values, "b q"])
    assert np.allclose(found, layer(tf.constant([*values, "b q"])).numpy()[:, : found.shape[1]])


def test_vectors_are_standardized_place_by_place_and_reshaped():
    values = np.array([[1.0, 10, 5, 0], [3.0, 30, 5, 2]])
    found = prepared({"kind": "vector", "shape": [2, 2]}, values, Field("float64", (4,)))
    assert found.tolist() == [[[-1, -1], [0, -1]], [[1, 1], [0, 1]]]


def png(pixels):
    return tf.io.encode_png(tf.constant(pixels, tf.uint8)).numpy()


def test_images_of_any_size_come_out_in_one():
    small, large = np.full((2, 3, 3), 7), np.full((9, 5, 3), 200)
    column = {"kind": "image", "image_size": [4, 6]}
    found = prepared(column, [png(small), png(large)], Field("bytes"))
    assert (found.shape, found.dtype) == ((2, 4, 6, 3), np.uint8)
    assert (found[0] == 7).all()
    assert (found[1] == 200).all()


FORMATS = [
    ("PNG", "RGB"),
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("JPEG", "CMYK"),
    ("GIF", "RGB"),
    ("BMP", "RGB"),
    ("BMP", "L"),
]


@pytest.mark.parametrize(("form", "mode"), FORMATS)
@pytest.mark.parametrize(("color_mode", "pillow"), [("grayscale", "L"), ("rgb", "RGB"), ("rgba", "RGBA")])
def test_every_format_comes_out_in_every_color_mode(form, mode, color_mode, pillow):
    content = io.BytesIO()
    Image.fromarray(SMOOTH).convert(mode).save(content, form)
    column = {"kind": "image", "image_size": [32, 32], "color_mode": color_mode}
    found = prepared(column, [content.getvalue()], Field("bytes"))[0]
    with Image.open(content) as opened:
        expected = np.asarray(opened.convert("RGB").convert(pillow)).reshape(found.shape)
    # Pillow decodes JPEGs otherwise in the last bits: 3 apart at most here.
    assert np.abs(found.astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    ("form", "color_mode"),
    [
        *(("PNG", mode) for mode in ("grayscale", "rgb", "rgba")),
        *(("JPEG", mode) for mode in ("grayscale", "rgb")),
        *(("BMP", mode) for mode in ("rgb", "rgba")),
        ("GIF", "rgb"),
    ],
)
def test_an_image_is_what_keras_reads_where_keras_reads_it(tmp_path, form, color_mode):
    import keras

    Image.fromarray(NOISE).save(tmp_path / f"one.{form.lower()}")
    column = {"kind": "image", "image_size": [32, 32], "color_mode": color_mode}
    found = prepared(column, [(tmp_path / f"one.{form.lower()}").read_bytes()], Field("bytes"))
    read = keras.utils.image_dataset_from_directory(
        tmp_path, labels=None, image_size=(32, 32), color_mode=color_mode, batch_size=1, verbose=False
    )
    assert np.array_equal(found, next(iter(read)).numpy())


def test_an_image_may_be_cropped_instead_of_squeezed():
    wide = np.zeros((2, 6, 1))
    wide[:, 2:4] = 255
    column = {"kind": "image", "image_size": [2, 2], "color_mode": "grayscale"}
    assert (prepared(column | {"crop_to_aspect_ratio": True}, [png(wide)], Field("bytes")) == 255).all()
    assert not (prepared(column, [png(wide)], Field("bytes")) == 255).all()


COLUMNS = {
    "age": {"kind": "number", "missing": "median"},
    "city": {"kind": "category", "missing": "unknown"},
    "note": {"kind": "text", "max_tokens": 50},
    "born": {"kind": "date", "missing": "2000-01-01"},
    "photo": {"kind": "image", "image_size": [2, 2]},
}
FIELDS = {
    "age": Field("float64"), "city": Field("string"), "note": Field("string"),
    "born": Field("date"), "photo": Field("bytes"), "plain": Field("int64"),
}  # fmt: skip
INPUTS = {"table": ["age", "city", "plain", "note", "born"], "picture": "photo"}


def table():
    return {
        "age": np.array([31, math.nan, 45.5]),
        "city": np.array(["Łódź", "", "東京"], object),
        "note": np.array(["très bien", "", "nicht gut"], object),
        "born": np.array(["1990-05-17", "", "1978-12-31T23:00"], object),
        "photo": np.array([png(np.full((3, 3, 3), 10 * i)) for i in range(3)], object),
        "plain": np.array([1, 2, 3]),
    }


def test_a_table_of_all_kinds_becomes_two_inputs():
    inputs = {"table": INPUTS["table"], "picture": ["photo"]}
    made = fitted(COLUMNS, table(), FIELDS, inputs)
    found = made.prepare(made.read(table(), 1))
    words, cities, date_places = 4, 3, 7
    assert found["table"].shape == (3, 1 + cities + 1 + words + 1 + date_places)
    assert found["table"].dtype == np.float32
    assert found["picture"].shape == (3, 2, 2, 3)
    assert np.isfinite(found["table"]).all()


def test_a_document_makes_the_same_again():
    inputs = {"table": INPUTS["table"], "picture": ["photo"]}
    made = fitted(COLUMNS, table(), FIELDS, inputs)
    again = Preprocessing.of(json.loads(json.dumps(made.document())))
    assert not again.needs_fitting
    first, second = (each.prepare(each.read(table(), 1)) for each in (made, again))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert again.document() == json.loads(json.dumps(made.document()))


def test_an_image_cannot_stand_beside_numbers():
    made = fitted(COLUMNS, table(), FIELDS, {"all": ["age", "photo"]})
    with pytest.raises(InvalidDataError, match=r"column 'photo' has rows of shape \(2, 2, 3\)"):
        made.prepare(made.read(table(), 1))


def test_columns_of_which_nothing_is_said_are_not_prepared():
    made = fitted({}, {"plain": np.arange(3)}, FIELDS, {"features": ["plain"]})
    assert not made.prepares
    assert made.prepare(made.read({"plain": np.arange(3)}, 1))["features"].tolist() == [[0], [1], [2]]
