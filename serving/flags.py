"""The command line: TensorFlow Serving's flags by their names and defaults, and three of our own."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from serving.errors import FlagError

FRONTS = ("auto", "envoy", "grpcio")
# Where a process that another one starts finds its flags (`to_json`).
VARIABLE = "FITSERVE_MODEL_SERVER_FLAGS"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the flags with an effect say; units as in TensorFlow Serving's own names."""

    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 0
    grpc_socket_path: str = ""
    rest_api_timeout_in_ms: int = 30_000
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0
    file_system_poll_wait_seconds: float = 1
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    saved_model_tags: str = "serve"
    allow_version_labels_for_unavailable_models: bool = False
    enable_signature_method_name_check: bool = False
    prefer_tflite_model: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    per_process_gpu_memory_fraction: float = 0
    enable_serialization_as_tensor_content: bool = False
    enable_profiler: bool = True
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    ssl_config_file: str = ""
    enable_grpc_healthcheck_service: bool = False
    monitoring_config_file: str = ""
    rest_api_enable_cors_support: bool = False
    grpc_channel_arguments: str = ""
    front: str = "auto"
    processes: int = 1


_HELP = {
    "host": "address to listen on; TensorFlow Serving itself listens on 0.0.0.0",
    "port": "port for gRPC; 0 for none",
    "rest_api_port": "port for HTTP; 0 for none",
    "grpc_socket_path": "unix socket for gRPC as well",
    "rest_api_timeout_in_ms": "time limit of an HTTP request",
    "grpc_max_threads": "threads for models that take longer than about a millisecond",
    "model_name": "name of the one model, without --model_config_file",
    "model_base_path": "absolute path of the one model, without --model_config_file",
    "model_config_file": "file with a ModelServerConfig in text format",
    "model_config_file_poll_wait_seconds": "seconds between readings of that file; 0 to read it once",
    "num_load_threads": "how many models are loaded at a time; 0 or 1 for one after the other",
    "num_unload_threads": "how many versions of a model are unloaded at a time",
    "file_system_poll_wait_seconds": "seconds between looks for versions; 0 to look once",
    "enable_signature_method_name_check": "Classify and Regress take only signatures with their method name",
    "prefer_tflite_model": "serve a version's model.tflite, where it has one",
    "front": "what speaks HTTP/2: Envoy (pyvoy), or grpcio and uvicorn; auto takes the first that runs",
    "processes": "how many processes share the ports; Linux only",
}

# What a script written for tensorflow_model_server may pass, and we don't need or don't have.
_WITHOUT_EFFECT: dict[str, type] = {
    "rest_api_num_threads": int,
    "platform_config_file": str,
    "xla_cpu_compilation_enabled": bool,
    "flush_filesystem_caches": bool,
    "allow_jit_warmup": bool,
    "remove_unused_fields_from_bundle_metagraph": bool,
    "use_tflite_model": bool,
    "tensorflow_session_config_file": str,
    "use_alts_credentials": bool,
    "num_tflite_pools": int,
    "num_tflite_interpreters_per_pool": int,
    "thread_pool_factory_config_file": str,
    "skip_initialize_tpu": bool,
}


def parse(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """Return the flags and, for the log, what was given without having an effect, each once.

    Raises:
        FlagError: a value isn't of its flag's kind, or no way to reach the server is left.
        SystemExit: `--help` or `--version`.
    """
    namespace, unknown = _parser().parse_known_args(list(arguments))
    given = vars(namespace)
    notes = [f"flag --{name} is accepted and has no effect" for name in _WITHOUT_EFFECT if name in given]
    notes += [
        f"unknown flag {name} is ignored" for name in dict.fromkeys(each.split("=")[0] for each in unknown)
    ]
    flags = Flags(**{field.name: given[field.name] for field in fields(Flags) if field.name in given})
    _check(flags)
    return flags, notes


def to_json(flags: Flags) -> str:
    """Return the flags as a JSON object, to hand them to another process."""
    return json.dumps(asdict(flags))


def from_json(text: str) -> Flags:
    """Read what `to_json` wrote."""
    return Flags(**json.loads(text))


def channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Return gRPC's channel arguments from `k=v,k=v`; a value is a number where it parses as one.

    Raises:
        FlagError: a part of it has no equals sign.
    """
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise FlagError(f"--grpc_channel_arguments takes k=v,k=v. Received: {part!r}")
        number = value.removeprefix("-")
        arguments.append((name, int(value) if number.isascii() and number.isdigit() else value))
    return arguments


def _check(flags: Flags) -> None:
    if not (flags.port or flags.rest_api_port or flags.grpc_socket_path):
        raise FlagError("no --port, --rest_api_port or --grpc_socket_path: nothing would listen")
    channel_arguments(flags.grpc_channel_arguments)
    _check_processes(flags)
    if flags.batching_parameters_file and not flags.enable_batching:
        raise FlagError(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    if not (flags.model_base_path or flags.model_config_file):
        raise FlagError("either --model_base_path or --model_config_file must be given")
    if (
        flags.model_base_path
        and not flags.model_config_file
        and not Path(flags.model_base_path).is_absolute()
    ):
        raise FlagError(f"--model_base_path must be absolute. Received: {flags.model_base_path!r}")
    if flags.tensorflow_session_parallelism and (
        flags.tensorflow_intra_op_parallelism or flags.tensorflow_inter_op_parallelism
    ):
        raise FlagError(
            "--tensorflow_session_parallelism sets both others; give it alone, or "
            "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
        )


def _check_processes(flags: Flags) -> None:
    if flags.processes < 1:
        raise FlagError(f"--processes must be at least 1. Received: {flags.processes}")
    if flags.processes == 1:
        return
    if sys.platform != "linux":
        raise FlagError("--processes above 1 needs Linux, whose SO_REUSEPORT shares connections out")
    if flags.grpc_socket_path:
        raise FlagError(
            "--grpc_socket_path takes one process: a unix socket can't be shared as a port can. "
            f"Received: --processes={flags.processes}"
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:  # noqa: ANN401 - argparse says NoReturn, and raising is that
        raise FlagError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fitserve-model-server",
        description="Serve SavedModels as TensorFlow Serving does: its flags, folders, gRPC and HTTP.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for field in fields(Flags):
        text = f"{_HELP.get(field.name, 'as in TensorFlow Serving')} (default: {field.default!r})"
        _add(parser, field.name, cast("type", field.type), text.replace("%", "%%"))
    for name, kind in _WITHOUT_EFFECT.items():
        _add(parser, name, kind, argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=_version())
    return parser


def _add(parser: argparse.ArgumentParser, name: str, kind: type, text: str) -> None:
    if kind is bool:
        parser.add_argument(f"--{name}", type=_boolean, nargs="?", const=True, help=text)
    elif name == "front":
        parser.add_argument("--front", choices=FRONTS, help=text)
    else:
        parser.add_argument(f"--{name}", type=kind, help=text)


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise argparse.ArgumentTypeError(f"expected true or false. Received: {text!r}")
    return text.lower() in {"true", "1"}


def _version() -> str:
    from importlib.metadata import version

    return f"fitserve-model-server {version('fitserve-server')}"
