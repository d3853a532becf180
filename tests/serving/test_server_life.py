"""The life of a server and of its versions: swaps, configs, damage, signals, and how it ends."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from service.ports import free_ports
from serving.store import ServedModel, Store
from tests.serving.asking import CODE, FRONT, FRONTS, leave, ones, outputs, predict_request, refusal


class Loose:
    """A server that started without any model, and the store whose models.config it rereads every second."""

    def __init__(self, server, store):
        self.server, self.store, self.models = server, store, {}

    def serve(self, name, *versions, **labels):
        self.models[name] = ServedModel(frozenset(versions) or None, labels)
        self.store.write_models_config(self.models)

    def state(self, name, number):
        status, document = self.server.get(f"/v1/models/{name}/versions/{number}")
        return document["model_version_status"][0] if status == 200 else {"state": None}


@pytest.fixture(scope="module", params=FRONT)
def loose(request, start_server, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("loose"))
    config = store.write_models_config({})
    server = start_server(
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--max_num_load_retries=0",
        chosen=request.param,
    )
    yield Loose(server, store)
    leave(server, signal.SIGINT, 5)


def test_a_swap_under_load_fails_no_request_and_changes_once(loose, saved_models, place):
    base = loose.store.root / "swapped"
    place(saved_models / "sum" / "1", base / "1")
    loose.serve("swapped")
    loose.server.wait_until(lambda: loose.state("swapped", 1)["state"] == "AVAILABLE")
    done, seen, failures = threading.Event(), [[] for _ in range(4)], []

    def ask(mine):
        request = predict_request("swapped", a=ones(), b=ones())
        while not done.is_set():
            try:
                response = loose.server.call("Predict", request)
            except grpc.RpcError as error:
                failures.append(error)
                return
            if outputs(response)["version"].tolist() != [response.model_spec.version.value]:
                failures.append(response)
            mine.append(response.model_spec.version.value)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        loose.server.wait_until(lambda: failures or all(len(mine) > 50 for mine in seen))
        place(saved_models / "sum" / "2", base / "2")
        loose.server.wait_until(lambda: failures or all(mine.count(2) > 50 for mine in seen))
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert [sorted(set(mine)) for mine in seen] == [[1, 2]] * 4
    assert all(mine == sorted(mine) for mine in seen)
    loose.server.wait_until(lambda: loose.state("swapped", 1)["state"] == "END")


def test_models_come_labels_move_and_models_go_by_the_config_file(loose, saved_models, place):
    base, server = loose.store.root / "labelled", loose.server
    assert server.get("/v1/models/labelled")[0] == 404

    place(saved_models / "sum" / "1", base / "1")
    loose.serve("labelled", 1, stable=1)
    server.wait_until(lambda: server.get("/v1/models/labelled/labels/stable")[0] == 200)

    # The label is asked for before its version is there: it stays where it was until it can move.
    loose.serve("labelled", 1, 2, stable=2)
    place(saved_models / "sum" / "2", base / "2")
    body, statuses = {"signature_name": "double", "instances": [1]}, set()

    def moved():
        statuses.add(server.post("/v1/models/labelled/labels/stable:predict", body)[0])
        label = server.get("/v1/models/labelled/labels/stable")[1]
        return label["model_version_status"][0]["version"] == "2"

    server.wait_until(moved)
    assert statuses == {200}

    del loose.models["labelled"]
    loose.store.write_models_config(loose.models)
    server.wait_until(lambda: server.post("/v1/models/labelled:predict", body)[0] == 404)


def test_a_damaged_version_says_so_and_the_old_one_stays(loose, saved_models, place):
    base = loose.store.root / "damaged"
    place(saved_models / "sum" / "1", base / "1")
    loose.serve("damaged")
    loose.server.wait_until(lambda: loose.state("damaged", 1)["state"] == "AVAILABLE")

    (base / "3").mkdir()
    staging = base / ".staging-2"
    staging.mkdir()
    (staging / "saved_model.pb").write_bytes(b"not a graph")
    staging.rename(base / "2")
    loose.server.wait_until(lambda: loose.state("damaged", 2)["state"] == "END")

    failed = loose.state("damaged", 2)["status"]
    assert failed["error_code"] == "UNKNOWN"
    assert "saved_model.pb" in failed["error_message"]
    assert (
        loose.server.post("/v1/models/damaged:predict", {"signature_name": "double", "inputs": [1]})[0] == 200
    )


def test_a_config_over_grpc_replaces_the_list(loose, saved_models, place):
    place(saved_models / "sum" / "1", loose.store.root / "reloaded" / "1")
    request = ReloadConfigRequest()
    request.config.model_config_list.config.add(
        name="reloaded", base_path=str(loose.store.root / "reloaded"), model_platform="tensorflow"
    )

    accepted = loose.server.call("HandleReloadConfigRequest", request)

    assert (accepted.status.error_code, accepted.status.error_message) == (0, "")
    assert loose.server.get("/v1/models/reloaded")[0] == 200


def reload_request(*models):
    request = ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, path, labels in models:
        model = request.config.model_config_list.config.add(
            name=name, base_path=path, model_platform="tensorflow"
        )
        model.version_labels.update(labels)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            reload_request(("m", "p", {})),
            CODE.INVALID_ARGUMENT,
            "Expected model m to have an absolute path or URI; got base_path()=p",
        ),
        (
            reload_request(("m", "/p", {}), ("m", "/q", {})),
            CODE.INVALID_ARGUMENT,
            "Illegal to list model m multiple times in config list",
        ),
        (
            reload_request(("m", "/p", {"stable": 2})),
            CODE.FAILED_PRECONDITION,
            "Request to assign label to version 2 of model m, which is not currently available for inference",
        ),
        (
            ReloadConfigRequest(),
            CODE.INVALID_ARGUMENT,
            (
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            ),
        ),
    ],
)
def test_a_config_that_can_not_be_obeyed_is_refused_and_changes_nothing(loose, request_, code, text):
    before = loose.server.get("/v1/models/reloaded")

    assert refusal(loose.server, "HandleReloadConfigRequest", request_) == (code, text)
    assert loose.server.get("/v1/models/reloaded") == before


@pytest.mark.parametrize("chosen", FRONT)
def test_a_request_in_flight_is_answered_before_the_server_leaves(
    chosen, saved_models, place, start_server, tmp_path
):
    place(saved_models / "slow", tmp_path / "slow" / "1")
    server = start_server(f"--model_base_path={tmp_path / 'slow'}", "--model_name=slow", chosen=chosen)
    family = server.family()
    asked = server.stub("Predict").future(predict_request("slow", x=np.ones(2, np.float32)), timeout=20)
    time.sleep(0.1)  # The request has to be inside; nothing outside tells when.
    assert not asked.done()

    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(15)

    assert time.monotonic() - started < 8
    assert outputs(asked.result())["y"].shape == (2,)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("chosen", FRONTS[:1])
def test_a_killed_server_leaves_no_process_behind(chosen, start_server, tmp_path):
    server = start_server(f"--model_config_file={Store(tmp_path).write_models_config({})}", chosen=chosen)
    family = server.family()

    server.stop(signal.SIGKILL)

    deadline = time.monotonic() + 5
    while left := [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def free_port():
    (port,) = free_ports(1)
    return port


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "serving.server", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_config_that_does_not_parse_ends_the_process(tmp_path):
    (tmp_path / "models.config").write_text("model_config_list { nonsense }")

    ended = run(f"--port={free_port()}", f"--model_config_file={tmp_path / 'models.config'}")

    assert ended.returncode == 1
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in ended.stderr


def test_a_port_that_is_taken_ends_the_process(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(f"--port={port}", f"--model_base_path={tmp_path}")

    assert ended.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--enable_batching", "--batching_parameters_file"],
        ["--monitoring_config_file"],
        ["--ssl_config_file"],
        ["--model_config_file"],
    ],
)
def test_a_damaged_file_is_found_before_tensorflow_is_imported(tmp_path, flags):
    file = tmp_path / "damaged.config"
    file.write_text("nonsense: 1")
    flags = [f"--port={free_port()}", "--model_base_path=/models/m", *flags[:-1], f"{flags[-1]}={file}"]
    code = (
        "import sys\nfrom serving.server import main\n"
        "assert main(sys.argv[1:]) == 1 and 'tensorflow' not in sys.modules"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code, *flags], check=True, capture_output=True, text=True, timeout=60
    )

    assert str(file) in ended.stderr


def test_help_and_flag_errors_need_no_tensorflow():
    code = (
        "import sys\nfrom serving.server import main\n"
        "assert main(['--port=x']) == 2 and main(['--port=0', '--model_base_path=/m']) == 2\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'tensorflow', 'grpc', 'numpy'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
