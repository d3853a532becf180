"""Several processes on one port: they share the load, tell one story, and one that dies is replaced."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from service.ports import free_ports
from serving import processes
from serving.flags import Flags
from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONT, Calls, leave, ones, outputs, predict_request, refusal

CONNECTIONS = 12
# Channels to one address share a connection unless they are told not to.
LOCAL = [("grpc.use_local_subchannel_pool", 1)]


class Shared:
    """Two processes on one port, and several connections to it."""

    def __init__(self, server, store):
        self.server, self.store = server, store
        address = f"127.0.0.1:{server.port}"
        self.clients = [Calls(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CONNECTIONS)]

    def reload(self, **paths):
        request = ReloadConfigRequest()
        request.config.model_config_list.SetInParent()
        for name, path in paths.items():
            request.config.model_config_list.config.add(
                name=name, base_path=str(path), model_platform="tensorflow"
            )
        return request

    def states(self, name):
        """Return what each connection is told of the model's newest version."""
        request = GetModelStatusRequest()
        request.model_spec.name = name
        told = [each.call("GetModelStatus", request).model_version_status[0] for each in self.clients]
        return {(each.version, each.state) for each in told}

    def versions(self, name):
        """Return which versions the connections are answered by."""
        request = predict_request(name, a=ones(), b=ones())
        return {each.call("Predict", request).model_spec.version.value for each in self.clients}


@pytest.fixture(scope="module", params=FRONT)
def shared(request, saved_models, place, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    store = Store(folder / "store")
    place(saved_models / "sum" / "1", store.root / "sum" / "1")
    config, monitoring = store.write_models_config({"sum": ServedModel()}), folder / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true, path: "/metrics" }')
    server = start_server(
        "--processes=2",
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        "--max_num_load_retries=0",
        chosen=request.param,
    )
    shared = Shared(server, store)
    yield shared
    for client in shared.clients:
        client.channel.close()
    leave(server, signal.SIGTERM, 5)


def connected(server):
    """Return how many connections to the gRPC port each process of the server has (proc(5), net/tcp)."""
    inodes = set()
    # An address of IPv4 may be served by a socket of IPv6.
    lines = [line for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()]
    for line in lines:
        fields = line.split()
        if fields[1].endswith(f":{server.port:04X}") and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    counts = {}
    for pid in server.family():
        count = 0
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                count += str(link.readlink()) in inodes
            except OSError:
                continue
        if count:
            counts[pid] = count
    return counts


def counted(server, status="OK"):
    _, text = text_of(server, "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return int(lines.get(f':tensorflow:serving:request_count{{model_name="sum",status="{status}"}}', 0))


def text_of(server, path):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def test_two_processes_share_the_connections(shared):
    shared.versions("sum")

    shares = connected(shared.server)

    # Each connection goes to one of two by its port: that all 12 go to the same has a chance of 1 in 2048.
    assert len(shares) == 2
    assert sum(shares.values()) >= CONNECTIONS


def test_the_metrics_of_both_are_summed(shared):
    before = counted(shared.server)
    shared.versions("sum")

    assert {counted(shared.server) - before for _ in range(6)} == {CONNECTIONS}


def test_a_new_version_reaches_both_without_a_failed_request(shared, saved_models, place):
    assert shared.versions("sum") == {1}
    done, failures, seen = threading.Event(), [], [[] for _ in shared.clients]

    def ask(client, mine):
        request = predict_request("sum", a=ones(), b=ones())
        while not done.is_set():
            try:
                response = client.call("Predict", request)
            except grpc.RpcError as error:
                failures.append(error)
                return
            mine.append(int(outputs(response)["version"][0]))

    threads = [threading.Thread(target=ask, args=each) for each in zip(shared.clients, seen, strict=True)]
    for thread in threads:
        thread.start()
    try:
        place(saved_models / "sum" / "2", shared.store.root / "sum" / "2")
        shared.server.wait_until(lambda: failures or all(mine.count(2) > 20 for mine in seen))
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert all(mine == sorted(mine) for mine in seen)
    shared.server.wait_until(lambda: shared.states("sum") == {(2, 30)})
    status, document = shared.server.get("/v1/models")
    assert (status, document["models"][0]["versions"][0]) == (200, {"version": "2", "state": "AVAILABLE"})


def test_a_reload_that_one_gets_reaches_all_before_it_is_answered(shared, saved_models, place):
    place(saved_models / "sum" / "1", shared.store.root / "other" / "1")
    request = shared.reload(sum=shared.store.root / "sum", other=shared.store.root / "other")

    shared.server.call("HandleReloadConfigRequest", request)

    assert shared.versions("other") == {1}
    assert shared.states("other") == {(1, 30)}


def test_a_reload_that_fails_in_one_is_an_error_of_the_call(shared):
    damaged = shared.store.root / "damaged" / "7"
    damaged.mkdir(parents=True)
    (damaged / "saved_model.pb").write_bytes(b"not a graph")
    paths = {name: shared.store.root / name for name in ("sum", "damaged")}

    code, text = refusal(shared.server, "HandleReloadConfigRequest", shared.reload(**paths))

    assert code == CODE.UNKNOWN
    assert text.startswith(
        "1 model(s) did not become available: {{{name: damaged version: 7} due to error: UNKNOWN: "
    )
    shared.versions("sum")


@pytest.mark.full
def test_one_that_is_killed_is_replaced_while_the_other_answers(shared, saved_models, place):
    place(saved_models / "sum" / "1", shared.store.root / "late" / "1")
    paths = {name: shared.store.root / name for name in ("sum", "late")}
    shared.server.call("HandleReloadConfigRequest", shared.reload(**paths))
    shared.versions("sum")
    server, before = shared.server, connected(shared.server)
    killed = max(before, key=before.get)
    counts = counted(server)
    failures, answered, done = [], [], threading.Event()
    request = predict_request("sum", a=ones(), b=ones())

    def ask(client):
        while not done.is_set():
            try:
                # A channel that lost its connection fails its calls for a second, unless they wait.
                client.stub("Predict")(request, timeout=10, wait_for_ready=True)
                answered.append(client)
            except grpc.RpcError as error:
                failures.append(error.code())

    threads = [threading.Thread(target=ask, args=[client]) for client in shared.clients]
    for thread in threads:
        thread.start()
    try:
        os.kill(killed, signal.SIGKILL)
        answered.clear()
        server.wait_until(lambda: set(answered) == set(shared.clients))
        server.wait_until(lambda: "process_replaced" in server.log.read_text())
        server.wait_until(lambda: len(fresh(server, before)) == 2, 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert set(failures) <= {CODE.UNAVAILABLE}
    assert len(failures) <= CONNECTIONS
    # The new process has it from the last reload, not from the file.
    assert shared.versions("late") == {1}
    assert server.get("/readyz")[0] == 200
    assert counted(server) >= counts


def fresh(server, before):
    """Open connections of their own, and return which processes took them."""
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CONNECTIONS)]
    try:
        time.sleep(0.05)  # They have to be accepted; nothing outside tells when.
        return [pid for pid, count in connected(server).items() if count]
    finally:
        for client in clients:
            client.close()


def test_a_process_that_can_not_start_ends_the_server(start_server, tmp_path):
    config = Store(tmp_path).write_models_config({})
    server = start_server("--processes=2", f"--model_config_file={config}", wait=False)
    server.wait_until(lambda: len(server.family()) == 3)
    (first, *_) = family = server.family() - {server.process.pid}
    os.kill(first, signal.SIGKILL)

    assert server.process.wait(10) == 1
    assert "process_ended" in server.log.read_text()
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_two_servers_do_not_share_a_port(tmp_path):
    (port,) = free_ports(1)
    flags = Flags(port=port, processes=2)
    command = [sys.executable, "-m", "serving.server", f"--port={port}", "--processes=2"]
    with processes.claimed(flags):
        ended = subprocess.run(
            [*command, f"--model_base_path={tmp_path}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


@pytest.mark.full
@pytest.mark.parametrize("chosen", FRONT)
def test_requests_in_flight_are_answered_before_all_leave(
    chosen, saved_models, place, start_server, tmp_path
):
    place(saved_models / "slow", tmp_path / "slow" / "1")
    base = f"--model_base_path={tmp_path / 'slow'}"
    server = start_server("--processes=2", base, "--model_name=slow", chosen=chosen)
    family, request = server.family(), predict_request("slow", x=ones()[0])
    # Four fit into the time for draining: each takes a core for half a second.
    clients = [Calls(f"127.0.0.1:{server.port}", LOCAL) for _ in range(4)]
    asked = [client.stub("Predict").future(request, timeout=20) for client in clients]
    time.sleep(0.2)  # The requests have to be inside; nothing outside tells when.

    assert server.stop(signal.SIGTERM) < 8

    assert server.process.returncode == 0
    assert [outputs(each.result())["y"].shape for each in asked] == [(3,)] * 4
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


@pytest.mark.full
@pytest.mark.parametrize("chosen", FRONT)
def test_a_killed_parent_leaves_no_process_behind(chosen, start_server, tmp_path):
    config = Store(tmp_path).write_models_config({})
    server = start_server("--processes=2", f"--model_config_file={config}", chosen=chosen)
    family = server.family()

    server.stop(signal.SIGKILL)

    deadline = time.monotonic() + 5
    while left := [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
