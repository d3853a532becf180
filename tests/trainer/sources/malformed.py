"""Files that are damaged, or no tables: what each is called, what it holds, and which place is told."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GIB = 1 << 30


@dataclass(frozen=True)
class Malformed:
    """A file, a part of the message, and the keys and values of its location as far as they are known."""

    filename: str
    content: Callable[[], bytes]
    says: str
    location: dict[str, Any]


def _written(write: Callable[[Path], object]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


def _parquet(cut: int = 0) -> bytes:
    import polars as pl

    content = io.BytesIO()
    pl.DataFrame({"a": range(1000), "y": range(1000)}).write_parquet(content)
    return content.getvalue()[: len(content.getvalue()) - cut]


def _records(damage: int | None = None) -> bytes:
    """Three records; the byte of this number is another."""
    import tensorflow as tf

    def write(path: Path) -> None:
        with tf.io.TFRecordWriter(str(path)) as file:
            for number in range(3):
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
                features = tf.train.Features(feature={"y": feature})
                file.write(tf.train.Example(features=features).SerializeToString())

    content = bytearray(_written(write))
    if damage is not None:
        content[damage] ^= 1
    return bytes(content)


def _arrays(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.ones((10, 2)))
    return content.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name, each)
    return content.getvalue()


def _jpeg() -> bytes:
    from PIL import Image

    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def _gzip_bomb() -> bytes:
    """A gigabyte of empty cells in a megabyte: members of a gzip file follow one another."""
    return gzip.compress(b"a,b\n") + gzip.compress(b"1,\n" * (4 << 20)) * (GIB // (12 << 20))


def _zip_bomb(name: str) -> bytes:
    """An archive that says of its member that it has four gigabytes."""
    content = bytearray(_zip({name: bytes(1 << 20)}))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFF_0000)
    return bytes(content)


def _text(text: str | bytes) -> Callable[[], bytes]:
    return lambda: text if isinstance(text, bytes) else text.encode()


LINES = "\n".join(json.dumps({"a": number}) for number in range(9))
MALFORMED = {
    "empty": Malformed("rows.csv", _text(""), "the file is empty", {}),
    "header only": Malformed("rows.csv", _text("a,b,y\n"), "a header and no rows", {}),
    "ragged: more": Malformed("rows.csv", _text("a,b\n1,2\n3,4,5\n"), "more cells", {"row": 2}),
    "ragged: fewer": Malformed("rows.csv", _text("a,b\n1,2\n3\n"), "fewer cells", {"row": 2}),
    "encoding": Malformed(
        "rows.csv", _text("a,b\n1,2\n3,grün\n".encode("latin-1")), "not in UTF-8", {"row": 2, "byte": 12}
    ),
    "utf-16": Malformed("rows.csv", _text("a,b\n1,2\n".encode("utf-16")), "none of the data formats", {}),
    "columns twice": Malformed("rows.csv", _text("a,b,a\n1,2,3\n"), "same name: 'a'", {"column": "a"}),
    "open quote": Malformed("rows.csv", _text('a,b\n1,2\n3,"4\n5,6\n'), "row 2|fewer|CSV", {}),
    "gzip cut short": Malformed(
        "rows.csv.gz", lambda: gzip.compress(b"a,b\n1,2\n" * 999)[:-9], "ends in its midst", {"byte": ...}
    ),
    "gzip damaged": Malformed(
        "rows.csv.gz", lambda: gzip.compress(b"a,b\n1,2\n")[:-6] + b"\0" * 6, "is damaged", {"byte": ...}
    ),
    "gzip bomb": Malformed("rows.csv.gz", _gzip_bomb, "unpacks to more than", {}),
    "line of JSON": Malformed("rows.jsonl", _text(LINES + '\n{"a": \n'), "line 10 is no JSON", {"row": 10}),
    "JSON of other types": Malformed(
        "rows.jsonl", _text(LINES + '\n{"a": [1]}\n'), "is a list", {"row": 10, "column": "a"}
    ),
    "parquet cut short": Malformed("rows.parquet", lambda: _parquet(cut=100), "no readable Parquet", {}),
    "parquet of nothing": Malformed("rows.parquet", _text(b"PAR1PAR1"), "no readable Parquet", {}),
    "record's checksum": Malformed(
        "rows.tfrecord", lambda: _records(damage=-1), "record 3 can't be read", {"row": 3, "byte": ...}
    ),
    "record cut short": Malformed(
        "rows.tfrecord", lambda: _records()[:-3], "record 3 can't be read", {"row": 3, "byte": ...}
    ),
    "array cut short": Malformed("rows.npy", lambda: _array()[:-1], "ends early", {"byte": 287}),
    "array's head": Malformed("rows.npy", lambda: _array()[:40], "can't be read", {}),
    "objects": Malformed(
        "rows.npz", lambda: _arrays(x=np.array([{}, []], dtype=object)), "Python objects", {"column": "x"}
    ),
    "other lengths": Malformed(
        "rows.npz", lambda: _arrays(x=np.ones(2), y=np.ones(3)), "has 3 rows", {"column": "y"}
    ),
    "archive cut short": Malformed("rows.npz", lambda: _arrays(x=np.ones(2))[:-9], "can't be read", {}),
    "array's name": Malformed(
        "rows.npz", lambda: _arrays(ä=np.ones(2)).replace("ä".encode(), b"\xff\xfe"), "can't be read", {}
    ),
    "image's name": Malformed(
        "pets.zip", lambda: _zip({"ä/1.jpg": _jpeg()}).replace("ä".encode(), b"\xff\xfe"), "can't be read", {}
    ),
    "array bomb": Malformed("rows.npz", lambda: _zip_bomb("x.npy"), "unpacks to more than", {}),
    "image bomb": Malformed("pets.zip", lambda: _zip_bomb("cat/a.png"), "unpacks to more than", {}),
    "jpeg cut short": Malformed(
        "pets.zip",
        lambda: _zip({"cat/1.jpg": _jpeg(), "cat/2.jpg": _jpeg()[:-500]}),
        "'cat/2.jpg', row 2, is damaged",
        {"row": 2, "column": "image", "file": "cat/2.jpg"},
    ),
    "way out": Malformed(
        "pets.zip",
        lambda: _zip({"../../cat/1.jpg": _jpeg()}),
        "out of the archive",
        {"file": "../../cat/1.jpg"},
    ),
    "no format": Malformed("model.h5", _text(b"\x89HDF\r\n\x1a\n"), "none of the data formats", {}),
}


def matches(location: dict[str, Any] | None, expected: dict[str, Any]) -> bool:
    """Whether a location is the expected one, where `...` is anything."""
    found = location or {}
    return found.keys() >= expected.keys() and all(
        value is ... or found[key] == value for key, value in expected.items()
    )
