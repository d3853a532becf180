import gzip

import numpy as np
import pytest

from trainer.errors import InvalidDataError
from trainer.loading import load
from trainer.profiling import inspect
from trainer.source import DataFile, detect
from trainer.sources import csv


def options(features=("a", "b"), label="y", **fields):
    return csv.Options(kind="csv", uri="u", features=features, label=label, **fields)


def read(options, path):
    return load(options, DataFile.of(path), seed=0).train


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "rows.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_columns_become_one_float32_input_in_the_order_asked(file):
    samples = read(options(features=("b", "a")), file("a,b,y\n1,2.5,0\n3,4,1\n"))
    assert samples.features["features"].tolist() == [[2.5, 1], [4, 3]]
    assert samples.features["features"].dtype == np.float32
    assert samples.targets["label"].dtype == np.int64


def test_a_label_with_fractions_is_float32(file):
    samples = read(options(), file("a,b,y\n1,2,0.5\n3,4,1\n"))
    assert samples.targets["label"].dtype == np.float32


def test_quoted_cells_other_separators_and_a_byte_order_mark_are_read(file):
    samples = read(options(separator=";"), file(b'\xef\xbb\xbf"a";b;y\r\n"1";2;0\r\n'))
    assert samples.features["features"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "message", "location"),
    [
        (
            "a,b,y\n1,2,0\n3,four,1\n",
            "column 'b', row 2 holds 'four', not a number",
            {"row": 2, "column": "b"},
        ),
        ("a,b,y\n1,2,0\n,4,1\n", "column 'a', row 2 is empty or NaN", {"row": 2, "column": "a"}),
        (
            "a,b,y\n1,2,NaN\n3,4,1\n",
            "column 'y', row 1 is empty or NaN",
            {"row": 1, "column": "y"},
        ),
        ("a,b,y\n1,2,0\n3,4\n", "row 2 has fewer cells than the header: 2, not 3", {"row": 2}),
        ("a,b,y\n1,2,0\n3,4,1,9\n", "row 2 has more cells than the header: 4, not 3", {"row": 2}),
        ("a,b,a,b\n1,2,0,3\n", "several columns have the same name: 'a', 'b'", {"column": "a"}),
        ('a,b,y\n1,2,0\n3,"4,1\n', "no readable CSV|fewer cells", {"row": 2}),
        ('a,b,y\n1,2,0\n3,5" pipe,1\n4,5,0\n', 'row 2 holds a lone "', {"row": 2}),
        ('a,b,y\n1,2,0\n3,5" pipe,\n4,6" pipe,1\n', 'row 2 holds a lone "', {"row": 2}),
        ('a,b 5",y\n1,2,0\n', "the header holds a lone", {"row": 0}),
        ('a,b,y\n1,2,0\n3,"4"x,1\n', "no readable CSV from row 2 on", {"row": 2}),
        ("a,b,y\r1,2,0\r", "lines end with a carriage return alone", {"row": 0}),
        ("a,c,y\n1,2,0\n", "column 'b' is not in the data; it has a, c, y", {"column": "b"}),
        ("a,b,y\n", "a header and no rows", None),
        ("", "the file is empty", None),
        ("\n\n", "the file is empty", None),
        (b"a,b,y\n1,2,0\n1,\xff\xfe,0\n", "row 2 is not in UTF-8: byte 14 .* 0xff", {"row": 2, "byte": 14}),
        (b"a,\xe9,y\n1,2,0\n", "the header is not in UTF-8: byte 2 .* 0xe9", {"row": 0, "byte": 2}),
    ],
)
def test_bad_files_are_told_where_and_why(file, text, message, location):
    with pytest.raises(InvalidDataError, match=message) as caught:
        read(options(), file(text))
    assert caught.value.location == location


def test_a_lone_quote_far_below_the_first_rows_is_told_with_what_to_write(file):
    rows = "".join(f"{i},{i},1\n" for i in range(20_000))
    with pytest.raises(InvalidDataError, match='row 20001 holds a lone "') as caught:
        read(options(), file(f'a,b,y\n{rows}1,5" pipe,0\n'))
    assert caught.value.location == {"row": 20_001}
    assert 'write it as ""' in caught.value.remedy


def test_quotes_within_a_cell_are_its_own_where_they_are_even(file):
    table = csv.open_table(None, DataFile.of(file('a,b\n1,a "good" one\n2,"5"" pipe"\n')))
    (chunk,) = table.chunks(["b"])
    assert chunk["b"].tolist() == ['a "good" one', '5" pipe']


@pytest.mark.parametrize("name", ["*", "^a.*$", "^.*$"])
def test_a_name_is_no_pattern(file, name):
    table = csv.open_table(None, DataFile.of(file(f"{name},ab,c\n 1,2,x\n")))
    (chunk,) = table.chunks(["c", name])
    assert {each: values.tolist() for each, values in chunk.items()} == {"c": ["x"], name: [1]}


def test_each_column_has_the_type_that_all_of_its_cells_have(file):
    rows = "1,2,true,x,2024-02-29,\n2, 2.5 ,False,4,2024-03-01,\n,nan,TRUE,,,\n"
    profile = inspect(DataFile.of(file(f"i,f,t,s,d,none\n{rows}")), "csv")
    assert [column.dtype for column in profile.columns] == [
        "float64",
        "float64",
        "bool",
        "string",
        "string",
        "float64",
    ]
    assert [column.missing for column in profile.columns] == [1, 1, 0, 1, 1, 3]


def test_empty_lines_are_no_rows(file):
    samples = read(options(), file("a,b,y\n1,2,0\n\n3,4,1\n\n"))
    assert samples.features["features"].tolist() == [[1, 2], [3, 4]]


def test_a_last_cell_may_be_empty(file):
    profile = inspect(DataFile.of(file('a,b\n1,\n"2\n2",x\n')), "csv")
    assert [column.missing for column in profile.columns] == [0, 1]


@pytest.mark.parametrize("name", ["rows.csv.gz", "upload"])
def test_a_file_compressed_by_gzip_is_read(tmp_path, name):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,y\n1,2,0\n3,4,1\n"))
    assert detect(path, name) == "csv"
    assert read(options(), path).features["features"].tolist() == [[1, 2], [3, 4]]
    assert [each.suffix for each in (tmp_path / ".converted").iterdir()] == [".parquet"]


def test_a_file_in_another_encoding_is_known_by_its_name(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("grün,y\n1,2\n".encode("latin-1"))
    assert detect(path, path.name) == "csv"


def test_text_far_below_the_first_rows_is_found(file):
    rows = "".join(f"{i},{i},1\n" for i in range(20_000))
    with pytest.raises(InvalidDataError) as caught:
        read(options(), file(f"a,b,y\n{rows}1,oops,0\n"))
    assert caught.value.location == {"row": 20_001, "column": "b"}


def test_a_declared_column_is_checked_even_if_nothing_uses_it(file):
    with pytest.raises(InvalidDataError, match="column 'c', row 1"):
        read(options(columns={"c": {"kind": "number"}}), file("a,b,c,y\n1,2,red,0\n"))


def test_a_profile_tells_statistics_and_anomalies(file):
    profile = inspect(DataFile.of(file("a,city,mixed\n1,Rome,1\n3,Oslo,x\n,Rome,3\n")), "csv")
    a, city, mixed = profile.columns
    assert (profile.rows, a.missing, a.minimum, a.maximum, a.mean, a.distinct) == (3, 1, 1, 3, 2, 2)
    assert (city.dtype, city.distinct, city.mean) == ("string", 2, None)
    assert mixed.dtype == "string"
    assert {(anomaly.column, anomaly.row) for anomaly in profile.anomalies} == {("a", 3), ("mixed", 2)}
    assert profile.model_dump(mode="json")["kind"] == "csv"
