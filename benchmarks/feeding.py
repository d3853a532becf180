"""Ways to bring shuffled batches of a table's rows into a training step that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl
import tensorflow as tf

from trainer.loading import load
from trainer.order import Order
from trainer.pipeline import PipelineOptions, training_dataset
from trainer.source import DataFile
from trainer.sources import parquet

COLUMNS = [f"x{number}" for number in range(20)]
Way: TypeAlias = Callable[[], int]
"""One epoch; it returns how many rows it brought."""


def _table(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(rows, len(COLUMNS))).astype(np.float32)
    label = (values.sum(axis=1) > 0).astype(np.int64)
    return pl.DataFrame(values, schema=COLUMNS).with_columns(y=label)


def csv_file(folder: Path, rows: int) -> Path:
    """Write the rows as CSV, once."""
    path = folder / "rows.csv"
    if not path.exists():
        _table(rows).write_csv(path)
    return path


def parquet_file(folder: Path, rows: int, name: str = "rows") -> Path:
    """Write the rows as Parquet, once, a million at a time."""
    path = folder / f"{name}.parquet"
    if not path.exists():
        piece = _table(min(rows, 1_000_000)).lazy()
        whole = pl.concat([piece] * max(1, rows // 1_000_000))
        whole.sink_parquet(path, compression="uncompressed", row_group_size=131_072)
    return path


def image_file(folder: Path, rows: int) -> Path:
    """Write rows of JPEG files, 128 x 128, as Parquet."""
    pixels = np.random.default_rng(1).integers(0, 255, (16, 128, 128, 3), np.uint8)
    files = [tf.io.encode_jpeg(each).numpy() for each in pixels]
    path = folder / "images.parquet"
    pl.DataFrame({"image": [files[row % 16] for row in range(rows)], "y": np.arange(rows) % 3}).write_parquet(
        path
    )
    return path


FILES: Mapping[str, Callable[..., Path]] = {"csv": csv_file, "parquet": parquet_file, "images": image_file}


def _fed(data: tf.data.Dataset) -> Way:
    """Feed a step that trains nothing; batches are asked for within the graph, as Keras asks for them."""

    @tf.function  # type: ignore[untyped-decorator]
    def epoch() -> tf.Tensor:
        rows, seen = tf.constant(0), tf.constant(0.0)
        for features, label in data:
            rows += tf.shape(features)[0]
            seen += features[0, 0] + tf.cast(label[0], tf.float32)
        return rows

    return lambda: int(epoch())


def ours(folder: Path, rows: int, batch_size: int) -> Way:
    """Read through a job's loading and pipeline."""
    options = parquet.Options.model_validate(
        {"kind": "parquet", "uri": "dataset://rows", "features": COLUMNS, "label": "y"}
    )
    samples = load(options, DataFile.of(parquet_file(folder, rows)), 1).train
    order = Order(len(samples), batch_size, seed=1, shuffle=True)
    pipeline = PipelineOptions(batch_size=batch_size)
    dtypes = {"features": "float32"}
    data = training_dataset(samples, order, dtypes=dtypes, options=pipeline, only=lambda: 0)
    return _fed(data)


def _arrays(folder: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    frame = pl.read_parquet(parquet_file(folder, rows))
    return frame.select(COLUMNS).to_numpy().astype(np.float32), frame["y"].to_numpy()


def _gathered(
    features: np.ndarray, label: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    order = np.random.default_rng().permutation(len(label))
    for start in range(0, len(label), batch_size):
        rows = order[start : start + batch_size]
        yield features[rows], label[rows]


def polars_and_numpy(folder: Path, rows: int, batch_size: int) -> Way:
    """Read once by polars, gather in numpy, hand over through a generator."""
    features, label = _arrays(folder, rows)
    return _fed(_generated(lambda: _gathered(features, label, batch_size)))


def _generated(batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
    signature = (tf.TensorSpec((None, len(COLUMNS)), tf.float32), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(tf.data.AUTOTUNE)


def gathered_by_tensorflow(folder: Path, rows: int, batch_size: int) -> Way:
    """Shuffle row numbers in tf.data, a buffer of all of them, and gather whole batches."""
    features, label = map(tf.constant, _arrays(folder, rows))
    numbers = tf.data.Dataset.range(rows).shuffle(rows).batch(batch_size)
    data = numbers.map(
        lambda some: (tf.gather(features, some), tf.gather(label, some)), num_parallel_calls=tf.data.AUTOTUNE
    )
    return _fed(data.prefetch(tf.data.AUTOTUNE))


def mapped_npy(folder: Path, rows: int, batch_size: int) -> Way:
    """Gather out of a memory-mapped .npy file, through a generator."""
    features, label = _arrays(folder, rows)
    path = folder / "features.npy"
    np.save(path, features)
    mapped = np.load(path, mmap_mode="r")
    return _fed(_generated(lambda: _gathered(mapped, label, batch_size)))


def parquet_generator(folder: Path, rows: int, batch_size: int) -> Way:
    """Stream Parquet through a generator, shuffle and rebatch in tf.data, in each epoch."""
    path = parquet_file(folder, rows)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for frame in pl.scan_parquet(path).collect_batches(chunk_size=65_536):
            order = np.random.default_rng().permutation(frame.height)
            yield frame.select(COLUMNS).to_numpy().astype(np.float32)[order], frame["y"].to_numpy()[order]

    return _fed(_generated(pieces).rebatch(batch_size).prefetch(tf.data.AUTOTUNE))


def tensor_slices(folder: Path, rows: int, batch_size: int) -> Way:
    """Shuffle row by row in tf.data, as introductions do."""
    features, label = _arrays(folder, rows)
    data = tf.data.Dataset.from_tensor_slices((features, label))
    data = data.shuffle(100_000).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return _fed(data)


def decode_csv(folder: Path, rows: int, batch_size: int) -> Way:
    """Decode whole batches of lines in TensorFlow."""
    defaults = [0.0] * len(COLUMNS) + [tf.constant(0, tf.int64)]

    def decoded(lines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *features, label = tf.io.decode_csv(lines, defaults)
        return tf.stack(features, axis=1), label

    lines = tf.data.TextLineDataset(str(csv_file(folder, rows))).skip(1).shuffle(100_000).batch(batch_size)
    data = lines.map(decoded, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return _fed(data)


WAYS: Mapping[str, Callable[[Path, int, int], Way]] = {
    "ours": ours,
    "polars, gathered in numpy": polars_and_numpy,
    "polars, shuffled numbers, tf.gather": gathered_by_tensorflow,
    "memory-mapped .npy": mapped_npy,
    "Parquet through a generator": parquet_generator,
    "from_tensor_slices.shuffle": tensor_slices,
    "decode_csv of batches": decode_csv,
}
