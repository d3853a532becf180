"""What is around the calls, on every front: gone clients, health, metrics, pages, and unix sockets."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import grpc
import numpy as np
import pytest

from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONTS, leave, ones, outputs, predict_request

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


@pytest.fixture(scope="module", params=FRONTS)
def server(request, saved_models, place, start_server, tmp_path_factory):
    """One server with the models sum and slow, one row a call and one call at a time, everything on."""
    folder = tmp_path_factory.mktemp("fronts")
    store = Store(folder / "store")
    place(saved_models / "sum" / "1", store.root / "sum" / "1")
    place(saved_models / "slow", store.root / "slow" / "1")
    config = store.write_models_config({"sum": ServedModel(), "slow": ServedModel()})
    batching, monitoring = folder / "batching.config", folder / "monitoring.config"
    batching.write_text(
        "max_batch_size { value: 1 } num_batch_threads { value: 1 } max_enqueued_batches { value: 100 }"
    )
    monitoring.write_text('prometheus_config { enable: true, path: "/metrics" }')
    started = start_server(
        f"--model_config_file={config}",
        "--enable_batching",
        f"--batching_parameters_file={batching}",
        f"--monitoring_config_file={monitoring}",
        "--enable_grpc_healthcheck_service",
        "--rest_api_enable_cors_support",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=600000,grpc.primary_user_agent=x",
        f"--grpc_socket_path={folder / 'grpc.sock'}",
        chosen=request.param,
    )
    started.folder = folder
    yield started
    leave(started, signal.SIGTERM, 5)


def slow_s(server):
    started = time.monotonic()
    server.call("Predict", predict_request("slow", x=ones()[0, :1]))
    return time.monotonic() - started


def test_cancelled_and_late_calls_give_their_place_back(server):
    alone_s = slow_s(server)
    request = predict_request("slow", x=np.ones(1, np.float32))
    calls = [server.stub("Predict").future(request, timeout=30) for _ in range(6)]
    calls += [server.stub("Predict").future(request, timeout=0.05) for _ in range(6)]
    time.sleep(0.1)  # They have to be inside; nothing outside tells when.
    for call in calls:
        call.cancel()

    # One runs already and can't be stopped; the twelve would take twelve times as long.
    assert slow_s(server) < 5 * alone_s + 0.5


def test_http_clients_that_hang_up_give_their_place_back(server):
    alone_s = slow_s(server)
    body = b'{"instances": [1.0]}'
    head = b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    sockets = [socket.create_connection(("127.0.0.1", server.rest_port)) for _ in range(12)]
    for each in sockets:
        each.sendall(head + body)
    time.sleep(0.1)  # They have to be inside; nothing outside tells when.
    for each in sockets:
        each.close()

    assert slow_s(server) < 5 * alone_s + 0.5


@pytest.mark.parametrize("service", [b"", b"ModelService", b"PredictionService"])
def test_health_is_checked_by_service(server, service):
    request = bytes((0x0A, len(service))) + service if service else b""

    assert server.channel.unary_unary(CHECK)(request, timeout=20) == b"\x08\x01"


def test_the_health_of_an_unknown_service_is_not_found(server):
    with pytest.raises(grpc.RpcError) as caught:
        server.channel.unary_unary(CHECK)(b"\x0a\x01x", timeout=20)

    assert (caught.value.code(), caught.value.details()) == (CODE.NOT_FOUND, "service name unknown")


def test_health_is_watched(server):
    watched = server.channel.unary_stream(WATCH)(b"", timeout=20)

    assert next(watched) == b"\x08\x01"
    watched.cancel()


def page(server, path, method="GET", **headers):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}{path}", method=method, headers=headers
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().decode(), reply.headers


def test_prometheus_reads_tensorflow_servings_names(server):
    server.call("Predict", predict_request("sum", a=ones(), b=ones()))
    assert server.post("/v1/models/sum:predict", {"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}]})[0] == 200
    server.post("/v1/models/sum:predict", {"instances": [1]})

    text, headers = page(server, "/metrics")

    assert headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines[':tensorflow:serving:request_count{model_name="sum",status="OK"}'] == "2"
    assert lines[':tensorflow:serving:request_count{model_name="sum",status="INVALID_ARGUMENT"}'] == "1"
    for entrypoint in ("GRPC", "REST"):
        labels = f'model_name="sum",API="Predict",entrypoint="{entrypoint}",status="OK"'
        name = ":tensorflow:serving:request_latency"
        assert lines[f"{name}_count{{{labels}}}"] == lines[f'{name}_bucket{{{labels},le="+Inf"}}'] == "1"
        assert 0 < float(lines[f"{name}_sum{{{labels}}}"]) < 5e6
    assert (
        lines[':tensorflow:serving:runtime_latency_count{model_name="sum",API="Predict",runtime="TF1"}']
        == "2"
    )
    assert (
        lines[':fitserve:serving:model_version_state{model_name="sum",version="1",state="AVAILABLE"}'] == "1"
    )


def test_browsers_may_ask_beforehand(server):
    _, headers = page(server, "/v1/models/sum:predict", "OPTIONS", Origin="http://page.example")

    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert headers["access-control-allow-headers"] == "Content-Type"
    answer, headers = page(server, "/v1/models/sum", Origin="http://page.example")
    assert headers["access-control-allow-origin"] == "*"
    assert "AVAILABLE" in json.dumps(json.loads(answer))


PROFILER = "/tensorflow.ProfilerService/"


def field(number, value):
    """One field of a protobuf message: bytes, or a number below 128."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2, len(value))) + value


BRIEFLY, LONG = field(9, 100), b"\x48\xa0\x8d\x06"  # ProfileOptions.duration_ms, 100 and 100,000


def profile_request(folder, session_id=b"s", options=BRIEFLY):
    return field(4, options) + field(5, str(folder).encode()) + field(6, session_id) + field(7, b"host:8500")


@pytest.fixture
def profile(server):
    return server.channel.unary_unary(PROFILER + "Profile")


@pytest.fixture
def long_profile(server, profile, tmp_path):
    """A profile that runs until it is ended; no other is taken meanwhile."""
    asked = profile.future(profile_request(tmp_path, b"long", LONG), timeout=60)
    refused = (CODE.INTERNAL, "Another profiling session active.")
    server.wait_until(lambda: outcome(profile, profile_request(tmp_path, b"other")) == refused)
    yield asked
    asked.cancel()
    server.wait_until(lambda: outcome(profile, profile_request(tmp_path, b"other"))[0] is CODE.OK)


def outcome(method, request):
    try:
        method(request, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return CODE.OK, ""


def test_the_server_is_profiled_under_load(server, profile, tmp_path):
    asked = profile.future(profile_request(tmp_path), timeout=20)
    while not asked.done():
        server.call("Predict", predict_request("sum", a=ones(), b=ones()))

    assert asked.result() == b""
    assert b"SessionRun" in (tmp_path / "s" / "host_8500.xplane.pb").read_bytes()


def test_a_profile_is_ended_on_request(server, long_profile, tmp_path):
    server.channel.unary_unary(PROFILER + "Terminate")(field(1, b"long"), timeout=20)

    long_profile.result()
    assert (tmp_path / "long" / "host_8500.xplane.pb").exists()


def test_a_profile_whose_caller_left_makes_room(server, long_profile, profile, tmp_path):
    long_profile.cancel()

    server.wait_until(lambda: outcome(profile, profile_request(tmp_path))[0] is CODE.OK)


@pytest.mark.parametrize(
    ("method", "body", "code", "text"),
    [
        ("Monitor", b"", CODE.UNIMPLEMENTED, "unimplemented."),
        (
            "Other",
            b"",
            CODE.UNIMPLEMENTED,
            "/tensorflow.ProfilerService/Other is not implemented by this server",
        ),
        (
            "Profile",
            b"\x22",
            CODE.INVALID_ARGUMENT,
            "request of /tensorflow.ProfilerService/Profile doesn't parse",
        ),
        ("Profile", profile_request("/proc/none"), CODE.INTERNAL, "/proc/none"),
    ],
)
def test_what_the_profiler_refuses(server, method, body, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        server.channel.unary_unary(PROFILER + method)(body, timeout=20)

    assert caught.value.code() == code
    assert text in caught.value.details()


TRACE = """
import sys, tensorflow as tf
tf.profiler.experimental.client.trace(f"grpc://127.0.0.1:{sys.argv[1]}", sys.argv[2], 500)
"""


@pytest.mark.full
def test_tensorflows_own_client_profiles_the_server(server, tmp_path):
    command = [sys.executable, "-c", TRACE, str(server.port), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        while client.poll() is None:
            server.call("Predict", predict_request("sum", a=ones(), b=ones()))
        assert client.returncode == 0, client.stdout.read()

    (profile,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert b"SessionRun" in profile.read_bytes()


def test_grpc_is_answered_on_a_unix_socket(server):
    with grpc.insecure_channel(f"unix:{server.folder / 'grpc.sock'}") as channel:
        body = predict_request("sum", a=ones(), b=ones()).SerializeToString()
        reply = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(body, timeout=20)

    expected = server.call("Predict", predict_request("sum", a=ones(), b=ones()))
    np.testing.assert_array_equal(outputs(type(expected).FromString(reply))["y"], outputs(expected)["y"])
