"""TensorFlow Serving's smaller configuration files, which are protobuf text.

The package tensorflow-serving-api doesn't carry their messages, so they are declared here, field by field,
from session_bundle_config.proto, ssl_config.proto and monitoring_config.proto; text knows names, not numbers.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from serving.errors import FlagError

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {"bool": _FIELD.TYPE_BOOL, "int64": _FIELD.TYPE_INT64, "string": _FIELD.TYPE_STRING}
_FILE = "fitserve/serving/text_protos.proto"
_PACKAGE = "fitserve.serving"
_INT64, _STRING, _BOOL = (f"google.protobuf.{kind}Value" for kind in ("Int64", "String", "Bool"))
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": _INT64,
        "batch_timeout_micros": _INT64,
        "max_enqueued_batches": _INT64,
        "num_batch_threads": _INT64,
        "thread_pool_name": _STRING,
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": _BOOL,
        "max_execution_batch_size": _INT64,
    },
    "SSLConfig": {
        "server_key": "string",
        "server_cert": "string",
        "custom_ca": "string",
        "client_verify": "bool",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": f"{_PACKAGE}.PrometheusConfig"},
}


# Any: the messages' classes are made at run time.
def read(path: Path, name: str) -> Any:  # noqa: ANN401
    """Return the message of that name which the file holds.

    Raises:
        FlagError: the file can't be read, or doesn't parse.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), _new(name))
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise FlagError(f"Invalid protobuf file: '{path}': {error}") from error


def _new(name: str) -> Any:  # noqa: ANN401
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name=_FILE, package=_PACKAGE, syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name]
    )
    for message, kinds in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(kinds.items(), start=1):
            label = _FIELD.LABEL_REPEATED if kind.startswith("repeated ") else _FIELD.LABEL_OPTIONAL
            base = kind.removeprefix("repeated ")
            if base in _KINDS:
                added.field.add(name=field, number=number, label=label, type=_KINDS[base])
            else:
                added.field.add(
                    name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=f".{base}"
                )
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()
