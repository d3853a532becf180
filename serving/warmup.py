"""The requests a version wants to see before its first caller: assets.extra/tf_serving_warmup_requests."""

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.errors import LoadError

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000


def requests(version: Path) -> Iterator[PredictRequest]:
    """Yield the recorded predict requests of a version, none when it has no such file.

    Raises:
        LoadError: the file is cut off, isn't a TFRecord file, or holds more than 1000 records.
    """
    path = version / WARMUP_FILE
    if not path.is_file():
        return
    for number, record in enumerate(_records(path)):
        if number >= MOST_RECORDS:
            raise LoadError(f"Number of warmup records exceeds the maximum (1000) at {path}")
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise LoadError(f"Failed to parse warmup record {number} of {path}: {error}") from error
        if log.WhichOneof("log_type") == "predict_log":
            yield log.predict_log.request


def _records(path: Path) -> Iterator[bytes]:
    # TFRecord: length (uint64), its masked CRC (uint32), content, its masked CRC. The store's digests already
    # tell a damaged file, so the CRCs are not computed again.
    with path.open("rb") as file:
        while header := file.read(12):
            if len(header) < 12:
                raise LoadError(f"{path} is cut off")
            (length,) = struct.unpack("<Q", header[:8])
            record = file.read(length + 4)
            if len(record) < length + 4:
                raise LoadError(f"{path} is cut off")
            yield record[:length]
