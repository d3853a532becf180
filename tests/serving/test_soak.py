"""Good and bad requests, cancelled calls, swaps and reloads at once: nothing fails, and nothing grows."""

import contextlib
import http.client
import json
import random
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import numpy as np
import psutil
import pytest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from tests.serving.asking import CODE, FRONTS, leave, ones, outputs, predict_request

REFUSALS = {CODE.INVALID_ARGUMENT, CODE.NOT_FOUND, CODE.FAILED_PRECONDITION, CODE.UNIMPLEMENTED}
SWAP_S = 1.2
KEPT_VERSIONS = 3


@dataclass
class Soak:
    """A server with the models sum and dense, and those who ask it until the time is over."""

    server: object
    root: object
    saved_models: object
    place: object
    seconds: float
    answered: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    memory_mb: list = field(default_factory=list)

    def run(self):
        started = time.monotonic()
        self.until = started + self.seconds
        asking = [self.good_grpc, self.good_grpc, self.good_http, self.bad, self.cancelled, self.gone]
        threads = [
            threading.Thread(target=self.kept_up, args=(each,))
            for each in (*asking, self.swaps, self.reloads)
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < self.until:
            self.memory_mb.append((time.monotonic() - started, self.resident_mb()))
            time.sleep(0.25)
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)

    def kept_up(self, ask):
        try:
            while time.monotonic() < self.until and not self.failures:
                ask()
                self.answered[ask.__name__] += 1
        except Exception as error:  # a thread's end has to fail the test
            self.failures.append((ask.__name__, error))

    def good_grpc(self):
        response = self.server.call("Predict", predict_request("sum", a=ones(2), b=ones(2)))
        version = response.model_spec.version.value
        # Versions are copies of 1 and 2 in turn, and answer with what they are copies of.
        assert outputs(response)["version"].tolist() == [2 - version % 2] * 2
        assert outputs(response)["y"].tolist() == [[2.0] * 3] * 2

    def good_http(self):
        with np.load(self.saved_models / "answers.npz") as answers:
            status, document = self.server.post(
                "/v1/models/dense:predict", {"instances": answers["rows"].tolist()}
            )
            assert status == 200, document
            np.testing.assert_allclose(document["predictions"], answers["answer"], atol=1e-6)

    def bad(self):
        wrong = random.choice(
            [
                predict_request("no", a=ones()),
                predict_request("sum", version=10**6),
                predict_request("sum", a=ones()),
                predict_request("sum", "s", a=ones(), b=ones()),
                predict_request("dense", features=np.ones((2, 3), np.float32)),
                predict_request("dense", features=np.array([b"text"], object)),
                PredictRequest(),
            ]
        )
        with pytest.raises(grpc.RpcError) as caught:
            self.server.call("Predict", wrong)
        assert caught.value.code() in REFUSALS, caught.value
        path = random.choice(["dense:predict", "no:predict", "dense/versions/9:predict", "dense:guess"])
        body = random.choice([b"", b"{", b'{"instances": "x"}', b'{"inputs": [[1, 2], [3]]}', b"\xff" * 100])
        status, document = self.server.get(f"/v1/models/{path}", "POST", body)
        assert 400 <= status < 500, document

    def cancelled(self):
        call = self.server.stub("Predict").future(
            predict_request("sum", a=ones(1000), b=ones(1000)), timeout=20
        )
        time.sleep(random.uniform(0, 0.005))
        call.cancel()
        try:
            call.result(timeout=20)
        except grpc.FutureCancelledError:
            pass
        except grpc.RpcError as error:
            if error.code() is not CODE.CANCELLED:
                raise

    def gone(self):
        """Ask, and leave before the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.rest_port, timeout=20)
        body = json.dumps({"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}] * 200})
        connection.request("POST", "/v1/models/sum:predict", body)
        time.sleep(random.uniform(0, 0.005))
        connection.close()
        # It waits for nobody, and could ask for more than anybody can answer.
        time.sleep(0.05)

    def swaps(self):
        base = self.root / "sum"
        numbers = sorted(int(path.name) for path in base.iterdir() if path.name.isdigit())
        self.place(self.saved_models / "sum" / str(2 - (numbers[-1] + 1) % 2), base / str(numbers[-1] + 1))
        for number in numbers[:-KEPT_VERSIONS]:
            shutil.rmtree(base / str(number))
        time.sleep(SWAP_S)

    def reloads(self):
        for names in (("sum", "dense", "text"), ("sum", "dense")):
            request = ReloadConfigRequest()
            for name in names:
                request.config.model_config_list.config.add(
                    name=name, base_path=str(self.root / name), model_platform="tensorflow"
                )
            reply = self.server.call("HandleReloadConfigRequest", request)
            assert reply.status.error_code == 0, reply
            time.sleep(0.5)

    def resident_mb(self):
        total = 0
        for pid in self.server.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total / 2**20


@pytest.mark.parametrize(
    ("chosen", "seconds"),
    [
        (FRONTS[0], 12),
        *(pytest.param(front, 60, marks=[pytest.mark.full, pytest.mark.timeout(180)]) for front in FRONTS),
    ],
)
def test_nothing_fails_and_nothing_grows(chosen, seconds, start_server, saved_models, place, tmp_path):
    place(saved_models / "sum" / "1", tmp_path / "sum" / "1")
    for name in ("dense", "text"):
        place(saved_models / name, tmp_path / name / "1")
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
            for name in ("sum", "dense")
        )
        + "}"
    )
    server = start_server(f"--model_config_file={config}", chosen=chosen)
    soak = Soak(server, tmp_path, saved_models, place, seconds)

    soak.run()

    assert soak.failures == []
    assert soak.answered.keys() == {
        "good_grpc", "good_http", "bad", "cancelled", "gone", "swaps", "reloads"
    }  # fmt: skip
    first = [mb for at, mb in soak.memory_mb if at <= seconds / 6]
    last = [mb for _, mb in soak.memory_mb[-4:]]
    told = f"{soak.answered}; resident MB {first[-1]:.0f} after a sixth, {max(last):.0f} at the end"
    print(told)  # noqa: T201
    assert max(last) <= 1.2 * first[-1], told
    leave(server, signal.SIGTERM, 8)
