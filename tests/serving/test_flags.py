import os
from dataclasses import fields

import pytest

from serving import flags
from serving.errors import FlagError
from serving.flags import Flags

BASE = "--model_base_path=/models/m"


def test_defaults_are_those_of_tensorflow_serving():
    parsed, notes = flags.parse([BASE])

    assert (parsed.port, parsed.rest_api_port, parsed.model_name, notes) == (8500, 0, "default", [])
    assert (parsed.file_system_poll_wait_seconds, parsed.model_config_file_poll_wait_seconds) == (1, 0)
    assert (parsed.rest_api_timeout_in_ms, parsed.saved_model_tags) == (30_000, "serve")


@pytest.mark.parametrize("given", ["--enable_model_warmup=false", "--enable_model_warmup=0"])
def test_booleans_are_written_as_tensorflow_does(given):
    assert not flags.parse([BASE, given])[0].enable_model_warmup
    assert flags.parse([BASE, "--enable_serialization_as_tensor_content"])[
        0
    ].enable_serialization_as_tensor_content


def test_what_has_no_effect_is_told_once():
    twice = ["--rest_api_num_threads=2", "--rest_api_num_threads=3", "--nope=1", "--nope=2"]
    _, notes = flags.parse([BASE, *twice])

    assert notes == [
        "flag --rest_api_num_threads is accepted and has no effect",
        "unknown flag --nope is ignored",
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([BASE, "--port=x"], "invalid int value"),
        ([BASE, "--port=0"], "nothing would listen"),
        ([], "--model_base_path or --model_config_file"),
        (["--model_base_path=relative"], "must be absolute"),
        ([BASE, "--front=nginx"], "invalid choice"),
        ([BASE, "--enable_model_warmup=maybe"], "expected true or false"),
        ([BASE, "--grpc_channel_arguments=a"], "takes k=v,k=v"),
        ([BASE, "--processes=0"], "at least 1"),
        ([BASE, "--processes=2", "--grpc_socket_path=/x"], "takes one process"),
        (
            [BASE, "--batching_parameters_file=/x"],
            "is set without setting server_options.enable_batching to true",
        ),
        (
            [BASE, "--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1"],
            "give it alone",
        ),
    ],
)
def test_flags_that_make_no_sense_are_refused(given, text):
    with pytest.raises(FlagError, match=text):
        flags.parse(given)


def test_channel_arguments_are_numbers_where_they_parse():
    assert flags.channel_arguments("a=1,b=-2,c=x=y,") == [("a", 1), ("b", -2), ("c", "x=y")]


def test_flags_travel_to_another_process_as_json():
    parsed, _ = flags.parse([BASE, "--file_system_poll_wait_seconds=0.5"])

    assert flags.from_json(flags.to_json(parsed)) == parsed


# The flags of TensorFlow Serving's main.cc but `version`: those with an effect here, with another value than
# their default, and the default; then those without.
EFFECTIVE = {
    "port": (1, 8500),
    "grpc_socket_path": ("/s", ""),
    "rest_api_port": (1, 0),
    "rest_api_timeout_in_ms": (1, 30_000),
    "rest_api_enable_cors_support": (True, False),
    "enable_batching": (True, False),
    "allow_version_labels_for_unavailable_models": (True, False),
    "batching_parameters_file": ("/f", ""),
    "enable_per_model_batching_parameters": (True, False),
    "model_config_file": ("/f", ""),
    "model_config_file_poll_wait_seconds": (1, 0),
    "model_name": ("m", "default"),
    "model_base_path": ("/m", ""),
    "num_load_threads": (2, 0),
    "num_unload_threads": (2, 0),
    "max_num_load_retries": (1, 5),
    "load_retry_interval_micros": (1, 60_000_000),
    "file_system_poll_wait_seconds": (2, 1),
    "tensorflow_session_parallelism": (1, 0),
    "tensorflow_intra_op_parallelism": (1, 0),
    "tensorflow_inter_op_parallelism": (1, 0),
    "ssl_config_file": ("/f", ""),
    "per_process_gpu_memory_fraction": (0.5, 0),
    "saved_model_tags": ("tpu", "serve"),
    "grpc_channel_arguments": ("a=1", ""),
    "grpc_max_threads": (1, 4 * (os.cpu_count() or 1)),
    "enable_model_warmup": (False, True),
    "num_request_iterations_for_warmup": (1, 0),
    "monitoring_config_file": ("/f", ""),
    "prefer_tflite_model": (True, False),
    "enable_signature_method_name_check": (True, False),
    "enable_profiler": (False, True),
    "enable_serialization_as_tensor_content": (True, False),
    "enable_grpc_healthcheck_service": (True, False),
}
NOTED = (
    "rest_api_num_threads=1",
    "flush_filesystem_caches=false",
    "tensorflow_session_config_file=/f",
    "use_alts_credentials=true",
    "platform_config_file=/f",
    "remove_unused_fields_from_bundle_metagraph=true",
    "num_tflite_pools=1",
    "num_tflite_interpreters_per_pool=1",
    "xla_cpu_compilation_enabled=true",
    "thread_pool_factory_config_file=/f",
    "skip_initialize_tpu=true",
)


@pytest.mark.parametrize("name", EFFECTIVE)
def test_a_flag_of_tensorflow_serving_has_its_default_and_is_taken(name):
    value, default = EFFECTIVE[name]
    needed = ["--enable_batching"] if name == "batching_parameters_file" else []

    parsed, notes = flags.parse([BASE, *needed, f"--{name}={value}"])

    assert getattr(Flags(), name) == default
    assert (getattr(parsed, name), notes) == (value, [])


@pytest.mark.parametrize("given", NOTED)
def test_a_flag_of_tensorflow_serving_that_has_no_effect_is_noted(given):
    assert flags.parse([BASE, f"--{given}"])[1] == [
        f"flag --{given.partition('=')[0]} is accepted and has no effect"
    ]


def test_the_other_flags_are_our_own():
    assert {field.name for field in fields(Flags)} - EFFECTIVE.keys() == {"host", "front", "processes"}
