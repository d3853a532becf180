"""TFRecord files of tf.train.Example, plain or by gzip, turned into Parquet once."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.errors import InvalidDataError
from trainer.frames import FrameTable, kept_once, write_parquet
from trainer.source import DataFile, FileOptions
from trainer.table import Table
from trainer.unpacking import plain_head, unpacked

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import tensorflow as tf

KIND = "tfrecord"
# The schema is that of so many records; what only later ones have is no column.
LOOKED_AT = 1024
FRAME_BYTES = 16  # a record's length and the two checksums
BATCH_BYTES, BATCH_RECORDS, GROUP_RECORDS = 32 << 20, 4096, 32768
FLOAT_LIST, INT64_LIST, BYTES_LIST = "float_list", "int64_list", "bytes_list"
_POLYNOMIAL, _MASK = 0x82F63B78, 0xA282EAD8


class Options(FileOptions):
    """A TFRecord file of tf.train.Example, plain or by gzip.

    Columns are the features of the first 1,024 records: of float or int64, one number or as many in each
    record, or of bytes, which are texts if those are in UTF-8. A feature that a record lacks is a missing
    value.
    """

    kind: Literal["tfrecord"]


def detect(head: bytes, filename: str) -> bool:  # noqa: ARG001 - the contract of sources
    """Say whether the first record's length has the checksum that follows it."""
    head = plain_head(head)
    return len(head) >= 12 and _masked_crc(head[:8]) == int.from_bytes(head[8:12], "little")


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Open the file's Parquet form, which is made if there is none."""

    def convert(target: Path) -> None:
        with unpacked(file.path, file.conversions) as plain:
            _convert(plain, target)

    return FrameTable(kept_once(file.converted(KIND, 2, suffix=".parquet"), convert))


def _convert(source: Path, target: Path) -> None:
    looked = _Looked()
    for (record,) in itertools.islice(_batches(source, 1), LOOKED_AT):  # one by one: they may be large
        looked.see(record)
    if not looked.records:
        raise InvalidDataError("the file has no records")
    features = looked.features
    if not features:
        raise InvalidDataError("the records have no features: are they tf.train.Example?")
    group = max(1, min(GROUP_RECORDS, BATCH_BYTES * looked.records // looked.size_bytes))
    batch = min(BATCH_RECORDS, group)
    starts = itertools.count(1, batch)
    frames = (
        _frame(records, start, features)
        for start, records in zip(starts, _batches(source, batch), strict=False)
    )
    schema = {name: feature.dtype for name, feature in features.items()}
    write_parquet(target, frames, schema, group_rows=group)


def _batches(path: Path, size: int) -> Iterator[list[bytes]]:
    """Yield the records.

    Raises:
        InvalidDataError: the file ends early, or a checksum is wrong; `location` has the record and the byte.
    """
    import tensorflow as tf

    records = tf.data.TFRecordDataset(str(path))
    done = read = 0
    try:
        for batch in records.batch(size).as_numpy_iterator():
            yield batch.tolist()
            done += len(batch)
            read += sum(len(record) + FRAME_BYTES for record in batch)
    except tf.errors.DataLossError as error:
        row = _count(records.skip(done)) + done + 1
        found = re.search(r"(\w+ record) at (\d+)", error.message)
        what, byte = (found[1], int(found[2])) if found else ("damaged record", 0)
        raise InvalidDataError(
            f"record {row} can't be read: {what} at byte {byte:,}", location={"row": row, "byte": byte}
        ) from error
    # TensorFlow takes a length that is cut short for the end of the file.
    if read < path.stat().st_size:
        raise InvalidDataError(
            f"record {done + 1} can't be read: the file ends in its midst, after byte {read:,}",
            location={"row": done + 1, "byte": read},
        )


def _count(records: tf.data.Dataset) -> int:
    """Return how many records can be read."""
    import tensorflow as tf

    count = 0
    with contextlib.suppress(tf.errors.DataLossError):
        for _ in records:
            count += 1
    return count


@dataclass(frozen=True)
class _Feature:
    """What the first records say of a feature: the field of its values, and how many each record has."""

    name: str
    values: str
    width: int
    text: bool

    @property
    def dtype(self) -> pl.DataType:
        """Its type in Parquet."""
        import polars as pl

        if self.values == BYTES_LIST:
            one = pl.String() if self.text else pl.Binary()
            return one if self.width == 1 else pl.List(one)
        number = pl.Int64() if self.values == INT64_LIST else pl.Float32()
        return number if self.width == 1 else pl.Array(number, self.width)

    def series(self, found: tf.RaggedTensor, first: int) -> pl.Series:
        """Return the values of some records, the number of the first of which is given."""
        import polars as pl

        values, lengths = found.values.numpy(), found.row_lengths().numpy()
        if self.values == BYTES_LIST and self.width > 1:  # told of, never read
            return pl.Series(self.name, [[]] * len(lengths), dtype=self.dtype)
        there = lengths > 0
        bad = there & (lengths != self.width)
        if bad.any():
            place = int(bad.argmax())
            raise self._bad(first + place, f"{lengths[place]} values, not {self.width} as the first one")
        if self.values == BYTES_LIST:
            return self._bytes(values, there, first)
        rows = values if self.width == 1 else values.reshape(-1, self.width)
        return _spread(pl.Series(self.name, rows, dtype=self.dtype), there)

    def _bytes(self, values: np.ndarray, there: np.ndarray, first: int) -> pl.Series:
        import polars as pl

        cells = _spread(pl.Series(self.name, values.tolist(), dtype=pl.Binary), there)
        if not self.text:
            return cells
        try:
            return cells.cast(pl.String)
        except pl.exceptions.PolarsError:
            for row, cell in enumerate(cells, first):
                if not _is_text(cell or b""):
                    raise self._bad(row, "bytes that are no UTF-8, where those before are texts") from None
            raise

    def _bad(self, row: int, what: str) -> InvalidDataError:
        return InvalidDataError(
            f"record {row}: feature {self.name!r} has {what}", location={"row": row, "column": self.name}
        )


def _spread(values: pl.Series, there: np.ndarray) -> pl.Series:
    """Return a value for each record, null where it has none."""
    import numpy as np
    import polars as pl

    if there.all():
        return values
    places = pl.Series(np.where(there, np.cumsum(there) - 1, -1))
    return values.gather(places.replace(-1, None))


class _Looked:
    """What the first records say: how many they were, how large, and which features they have."""

    def __init__(self) -> None:
        self.records = self.size_bytes = 0
        self._found: dict[str, _Feature] = {}

    @property
    def features(self) -> dict[str, _Feature]:
        """Return the features by name."""
        return dict(sorted(self._found.items()))

    def see(self, record: bytes) -> None:
        """Take the next record."""
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        self.records += 1
        self.size_bytes += len(record)
        try:
            features = tf.train.Example.FromString(record).features.feature
        except DecodeError as error:
            row = self.records
            raise InvalidDataError(f"record {row} is no tf.train.Example", location={"row": row}) from error
        for name in sorted(features):
            kind = features[name].WhichOneof("kind")
            values = getattr(features[name], kind).value if kind else ()
            if not values:
                continue
            text = kind == BYTES_LIST and all(map(_is_text, values))
            known = self._found.setdefault(name, _Feature(name, kind, len(values), text))
            if known.text and not text:
                self._found[name] = replace(known, text=False)


def _frame(records: list[bytes], first: int, features: Mapping[str, _Feature]) -> pl.DataFrame:
    import polars as pl
    import tensorflow as tf

    dtypes = {BYTES_LIST: tf.string, INT64_LIST: tf.int64, FLOAT_LIST: tf.float32}
    wanted = {
        name: tf.io.RaggedFeature(dtypes[each.values], row_splits_dtype=tf.int64)
        for name, each in features.items()
    }
    try:
        parsed = tf.io.parse_example(records, wanted)
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"Key: (.*), Index: (\d+)\.\s+(.*?) \[Op", error.message)
        if found is None:
            raise InvalidDataError(
                f"records from {first} on are no tf.train.Example: {error.message}"
            ) from error
        row = first + int(found[2])
        raise InvalidDataError(
            f"record {row}: feature {found[1]!r}: {found[3]}", location={"row": row, "column": found[1]}
        ) from error
    return pl.DataFrame([feature.series(parsed[name], first) for name, feature in features.items()])


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _masked_crc(content: bytes) -> int:
    """Return what TFRecord has as a length's checksum: CRC-32C, masked (TensorFlow's lib/hash/crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF
