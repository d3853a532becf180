"""The same few rows as a file of each kind: handwritten zeros and ones of 8 x 8 pixels."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PIXELS = [f"p{number}" for number in range(64)]
LARGEST = 16


@dataclass(frozen=True)
class Written:
    """A file, if there is one, and the `data` section that reads it, without a `uri`."""

    file: Path | None
    data: dict[str, Any]


def digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, (rows, 64), from 0 to 16, and what they show: 0 or 1."""
    from sklearn.datasets import load_digits

    pixels, shown = load_digits(n_class=2, return_X_y=True)
    return pixels[:rows].astype(np.float32), shown[:rows].astype(np.int64)


def write(kind: str, folder: Path, rows: int) -> Written:
    """Write the rows as this kind of source reads them."""
    x, y = digits(rows)
    return WRITERS[kind](folder, x, y)


def _csv(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    with gzip.open(folder / "digits.csv.gz", "wt", newline="") as file:
        table = csv.writer(file)
        table.writerow([*PIXELS, "y"])
        table.writerows([*row, label] for row, label in zip(x.tolist(), y.tolist(), strict=True))
    return Written(folder / "digits.csv.gz", {"features": PIXELS, "label": "y"})


def _image_folder(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    from PIL import Image

    with zipfile.ZipFile(folder / "digits.zip", "w") as archive:
        for number, (row, label) in enumerate(zip(x, y, strict=True)):
            content = io.BytesIO()
            Image.fromarray((row.reshape(8, 8) * 255 / LARGEST).astype(np.uint8)).save(content, "PNG")
            archive.writestr(f"digits/{'zero' if label == 0 else 'one'}/{number:04}.png", content.getvalue())
    image = {"kind": "image", "image_size": [8, 8], "color_mode": "grayscale"}
    data = {"features": "image", "label": "label"}
    return Written(folder / "digits.zip", data | {"columns": {"image": image, "label": {"kind": "category"}}})


def _rows(x: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    return [{"x": row, "y": label} for row, label in zip(x.tolist(), y.tolist(), strict=True)]


def _inline(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    return Written(None, {"rows": _rows(x, y), "features": "x", "label": "y"})


def _jsonl(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    (folder / "digits.jsonl").write_text("\n".join(map(json.dumps, _rows(x, y))))
    return Written(folder / "digits.jsonl", {"features": "x", "label": "y"})


def _npy(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    np.save(folder / "digits.npy", np.column_stack([x, y]))
    return Written(folder / "digits.npy", {"column_names": [*PIXELS, "y"], "features": PIXELS, "label": "y"})


def _npz(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    np.savez(folder / "digits.npz", x=x, y=y)
    return Written(folder / "digits.npz", {"features": "x", "label": "y"})


def _parquet(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    import polars as pl

    pl.DataFrame({"x": x, "y": y}).write_parquet(folder / "digits.parquet")
    return Written(folder / "digits.parquet", {"features": "x", "label": "y"})


def _tfrecord(folder: Path, x: np.ndarray, y: np.ndarray) -> Written:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(folder / "digits.tfrecord")) as file:
        for row, label in zip(x, y, strict=True):
            pixels = tf.train.Feature(float_list=tf.train.FloatList(value=row))
            shown = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            features = tf.train.Features(feature={"x": pixels, "y": shown})
            file.write(tf.train.Example(features=features).SerializeToString())
    return Written(folder / "digits.tfrecord", {"features": "x", "label": "y"})


WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], Written]] = {
    "csv": _csv,
    "image_folder": _image_folder,
    "inline": _inline,
    "jsonl": _jsonl,
    "npy": _npy,
    "npz": _npz,
    "parquet": _parquet,
    "tfrecord": _tfrecord,
}
