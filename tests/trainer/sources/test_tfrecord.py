import gzip
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.source import DataFile, detect
from trainer.sources import tfrecord


def feature(value):
    values = list(np.atleast_1d(np.asarray(value, object)))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if values and isinstance(values[0], (str, bytes)):
        content = [each.encode() if isinstance(each, str) else each for each in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=content))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write(path, *rows, compression=None):
    with tf.io.TFRecordWriter(str(path), compression) as file:
        for row in rows:
            features = {name: feature(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            file.write(row["raw"] if "raw" in row else example.SerializeToString())
    return DataFile.of(path)


@pytest.fixture
def file(tmp_path):
    return lambda *rows, **how: write(tmp_path / "rows.tfrecord", *rows, **how)


def columns(file):
    table = tfrecord.open_table(None, file)
    names = [name for name, field in table.fields.items() if field.dtype != "other"]
    chunks = list(table.chunks(names))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_features_are_columns_whatever_the_file_is_called(file, compression):
    rows = [{"x": [1.5, 2.0], "a": 0.5, "y": 1}, {"x": [3.0, 4.0], "a": 2.0, "y": 0}]
    saved = file(*rows, compression=compression)
    assert detect(saved.path, "upload") == "tfrecord"
    options = tfrecord.Options(kind="tfrecord", uri="u", features=["x", "a"], label="y")
    samples = load(options, saved, seed=0).train
    assert samples.features["features"].tolist() == [[1.5, 2, 0.5], [3, 4, 2]]
    assert samples.targets["label"].tolist() == [1, 0]


def test_bytes_are_texts_where_all_of_the_first_are(file):
    saved = file({"t": "größe", "b": b"\xff\xd8"}, {"t": "", "b": b"x"}, {})
    read = columns(saved)
    assert read["t"].tolist() == ["größe", "", ""]
    assert read["b"].tolist() == [b"\xff\xd8", b"x", b""]
    assert [field.dtype for field in tfrecord.open_table(None, saved).fields.values()] == ["bytes", "string"]


def test_a_feature_that_a_record_lacks_is_a_missing_value(file):
    read = columns(file({"i": 1}, {"f": 0.5, "v": [1.0, 2.0]}, {"i": 3, "v": [3.0, 4.0]}))
    assert np.array_equal(read["i"], [1, np.nan, 3], equal_nan=True)
    assert np.array_equal(read["f"], [np.nan, 0.5, np.nan], equal_nan=True)
    assert np.array_equal(read["v"], [[np.nan] * 2, [1, 2], [3, 4]], equal_nan=True)


def test_whole_numbers_in_lists_are_as_they_are(file):
    rows = [[1, (1 << 24) + 1], [(1 << 24) + 3, 4]]
    assert columns(file(*[{"v": row} for row in rows]))["v"].tolist() == rows


def test_several_texts_are_told_of_and_not_read(file):
    assert tfrecord.open_table(None, file({"s": ["a", "b"], "y": 1})).fields["s"].dtype == "other"


def test_rows_come_in_the_order_of_the_file(file):
    rows = [{"y": number} for number in range(10_000)]
    assert columns(file(*rows))["y"].tolist() == list(range(10_000))


def test_large_records_are_never_held_together(file, monkeypatch):
    monkeypatch.setattr(tfrecord, "BATCH_BYTES", 1 << 20)
    saved = file(*[{"b": bytes([255]) * (64 << 10), "y": number} for number in range(500)])
    tracemalloc.start()
    try:
        assert tfrecord.open_table(None, saved).rows == 500
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 13 MiB were measured; the records have 31 together, and all at once, with copies, took 44.
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("before", "row", "message"),
    [
        (3, {"x": [1.0]}, "feature 'x' has 1 values, not 2 as the first one"),
        (5000, {"x": [1.0]}, "feature 'x' has 1 values, not 2 as the first one"),
        (5000, {"x": [1, 2]}, "feature 'x': Data types don't match"),
        (5000, {"x": [1.0, 2.0], "t": b"\xff"}, "feature 't' has bytes that are no UTF-8"),
    ],
)
def test_a_record_unlike_the_first_is_told_by_its_number(file, before, row, message):
    rows = [{"x": [1.0, 2.0], "t": "text"}] * before
    saved = file(*rows, row)
    with pytest.raises(InvalidDataError, match=message) as caught:
        tfrecord.open_table(None, saved)
    assert caught.value.location == {"row": before + 1, "column": message.split("'")[1]}
    assert not list(saved.conversions.iterdir())


def test_a_wrong_checksum_is_told_by_record_and_byte(file):
    saved = file(*[{"y": 1000 + number} for number in range(5000)])
    content = bytearray(saved.path.read_bytes())
    size = len(content) // 5000
    content[size * 4000 + 20] ^= 1
    saved.path.write_bytes(content)
    with pytest.raises(InvalidDataError, match="record 4001 can't be read: corrupted record") as caught:
        tfrecord.open_table(None, saved)
    assert caught.value.location["row"] == 4001
    assert size * 4000 <= caught.value.location["byte"] < size * 4001
    assert not list(saved.conversions.iterdir())


@pytest.mark.parametrize("cut", [1, 20])
def test_a_file_cut_short_is_told_where_it_ends(file, cut):
    saved = file({"y": 1}, {"y": 2})
    content = saved.path.read_bytes()
    half = len(content) // 2
    saved.path.write_bytes(content[: half + cut])
    with pytest.raises(InvalidDataError, match="record 2 can't be read") as caught:
        tfrecord.open_table(None, saved)
    assert caught.value.location["row"] == 2
    assert half <= caught.value.location["byte"] <= half + cut


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no records"),
        (gzip.compress(b"", mtime=0), "no records"),
        (b"abc", "record 1 can't be read: the file ends"),
    ],
)
def test_what_has_no_records_is_refused(tmp_path, content, message):
    path = tmp_path / "rows.tfrecord"
    path.write_bytes(content)
    with pytest.raises(InvalidDataError, match=message):
        tfrecord.open_table(None, DataFile.of(path))


@pytest.mark.parametrize(("raw", "message"), [(b"\xff\xff", "record 2 is no tf.train.Example"), (b"", None)])
def test_records_that_are_no_examples_are_refused(file, raw, message):
    saved = file({"y": 1}, {"raw": raw})
    if message is None:
        assert tfrecord.open_table(None, saved).rows == 2
        return
    with pytest.raises(InvalidDataError, match=message):
        tfrecord.open_table(None, saved)
