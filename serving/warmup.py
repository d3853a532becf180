"""The requests a version wants to see before its first caller: assets.extra/tf_serving_warmup_requests."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving import inference, tensors
from serving.errors import Code, LoadError, RequestError
from serving.servable import Servable

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000


def records(version: Path) -> Iterator[PredictionLog]:
    """Yield the recorded requests of a version, none when it has no such file.

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
            yield PredictionLog.FromString(record)
        except DecodeError as error:
            raise LoadError(f"Failed to parse warmup record {number} of {path}: {error}") from error


def replay(servable: Servable, record: PredictionLog) -> None:
    """Run a recorded request, and throw its answer away; a record without a request does nothing.

    Raises:
        RequestError: the request fails, or is of a kind (SessionRun, PredictStreamed) that isn't replayed.
    """
    log_type = record.WhichOneof("log_type")
    match log_type:
        case "predict_log":
            _predict(servable, record.predict_log.request)
        case "classify_log":
            request = record.classify_log.request
            asked = inference.task(servable, inference.CLASSIFY, request.model_spec.signature_name)
            _infer(servable, [asked], request.input)
        case "regress_log":
            request = record.regress_log.request
            asked = inference.task(servable, inference.REGRESS, request.model_spec.signature_name)
            _infer(servable, [asked], request.input)
        case "multi_inference_log":
            request = record.multi_inference_log.request
            _infer(servable, inference.tasks(servable, request), request.input)
        case None:
            pass
        case _:
            number = record.DESCRIPTOR.fields_by_name[log_type].number
            raise RequestError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def _predict(servable: Servable, request: PredictRequest) -> None:
    inputs = {name: tensors.decode(proto, name) for name, proto in request.inputs.items()}
    plan = servable.plan(request.model_spec.signature_name, list(inputs), request.output_filter)
    servable.run(plan, inputs)


def _infer(servable: Servable, tasks: Sequence[inference.Task], given: Input) -> None:
    examples = inference.examples(given)
    for task in tasks:
        task.result(servable.run(task.plan, {inference.INPUTS: examples}), len(examples))


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
