import pytest

from serving import flags
from serving.errors import FlagError

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
    _, notes = flags.parse([BASE, "--num_load_threads=2", "--num_load_threads=3", "--nope=1", "--nope=2"])

    assert notes == [
        "flag --num_load_threads is accepted and has no effect",
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
