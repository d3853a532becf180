"""Jobs from POST to prediction, against real processes."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fitserve import Client, Predictor, ProblemError
from tests.acceptance.stack import FITSERVE, RunningStack, example, wait_for


@pytest.fixture(scope="module")
def digits(client: Client, data: Path) -> str:
    return client.upload(data / "digits.npz", name="digits").id


@pytest.fixture(scope="module")
def breast_cancer(client: Client, data: Path) -> str:
    return client.upload(data / "breast_cancer.csv", name="breast-cancer").id


@pytest.fixture(scope="module")
def tabular(client: Client, breast_cancer: str):
    """The example on a CSV, trained once for the tests that only look at what came out."""
    spec = example("breast_cancer")
    spec["fit"]["callbacks"] += [
        {"class_name": "TensorBoard", "config": {"histogram_freq": 1}},
        {"class_name": "CSVLogger"},
    ]
    job = client.submit(spec)
    return client.wait(job.id, timeout_s=240)


def test_an_upload_is_answered_with_its_schema(client: Client, breast_cancer: str) -> None:
    dataset = client.dataset(breast_cancer)
    assert (dataset.status, dataset.kind) == ("ready", "csv")
    names = [column["name"] for column in dataset.raw["schema"]["columns"]]
    assert dataset.raw["schema"]["rows"] == 569
    assert names[0] == "mean_radius"
    assert names[-1] == "benign"
    assert dataset.raw["statistics"]["benign"]["maximum"] == 1


def test_a_tabular_job_trains_on_a_csv_and_is_published(tabular) -> None:
    assert tabular.status == "succeeded", tabular.error
    assert tabular.raw["metrics"]["test"]["accuracy"] >= 0.92
    assert tabular.raw["result"]["version"] == 1
    epochs = tabular.raw["metrics"]["epochs"]
    assert 1 <= tabular.raw["metrics"]["best_epoch"] <= epochs <= tabular.raw["spec"]["fit"]["epochs"]
    moves = [move["status"] for move in tabular.raw["transitions"]]
    assert moves == ["queued", "running", "succeeded"]
    for artifact in tabular.raw["result"]["artifacts"]:
        if artifact.get("parity"):
            assert artifact["parity"]["max_abs_diff"] <= 1e-5, artifact["name"]


def test_events_are_numbered_from_one_and_stream_the_same(client: Client, stack, tabular) -> None:
    events = list(client.events(tabular.id))
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events if event.kind in ("version", "status")][-2:] == [
        "version",
        "status",
    ]
    epochs = [event.data["epoch"] for event in events if event.kind == "metric"]
    assert epochs == list(range(1, len(epochs) + 1))
    page = httpx.get(
        f"{stack.addresses.api}/v1/jobs/{tabular.id}/events?after=2&limit=3",
        headers={"Authorization": f"Bearer {stack.token}"},
    ).json()
    assert [event["id"] for event in page["data"]] == [3, 4, 5]
    assert (page["has_more"], page["next"]) == (True, "5")


def test_the_version_answers_as_keras_did_over_grpc_rest_and_the_api(
    client: Client, stack: RunningStack, tabular, tmp_path: Path
) -> None:
    version = client.version("breast-cancer", 1, wait_s=30)
    assert version.serving.state == "AVAILABLE"
    samples = np.load(client.download("breast-cancer", 1, "samples", tmp_path / "samples.npz"))
    rows, expected = samples["inputs/features"], next(samples[name] for name in samples if "outputs/" in name)
    with Predictor(stack.addresses.serving_grpc) as predictor:
        np.testing.assert_allclose(predictor.predict("breast-cancer", rows).output, expected, atol=1e-5)
    body = {"instances": rows.tolist()}
    rest = httpx.post(f"{stack.addresses.serving_rest}/v1/models/breast-cancer:predict", json=body).json()
    np.testing.assert_allclose(rest["predictions"], expected, atol=1e-5)
    proxied = client.predict("breast-cancer", rows.tolist())
    np.testing.assert_allclose(proxied, expected, atol=1e-5)


def test_an_artifact_has_the_digest_of_its_manifest_and_a_tar_is_the_same_each_time(
    client: Client, stack: RunningStack, tabular
) -> None:
    version = client.version("breast-cancer", 1)
    digests = {artifact["name"]: artifact["sha256"] for artifact in version.raw["artifacts"]}
    assert {"saved_model", "tflite", "onnx", "weights", "samples", "tensorboard"} <= set(digests)
    for name, digest in digests.items():
        url = f"{stack.addresses.api}/v1/models/breast-cancer/versions/1/artifacts/{name}"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {stack.token}"})
        assert answer.headers["ETag"] == f'"{digest}"'
        assert hashlib.sha256(answer.content).hexdigest() == digest, name
        assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_a_download_that_broke_off_is_taken_up_again(client: Client, stack: RunningStack, tabular) -> None:
    version = client.version("breast-cancer", 1)
    found = {artifact["name"]: artifact for artifact in version.raw["artifacts"]}
    for name, content_type in {
        "saved_model": "application/x-tar",
        "onnx": "application/octet-stream",
    }.items():
        url = f"{stack.addresses.api}/v1/models/breast-cancer/versions/1/artifacts/{name}"
        size, etag = found[name]["size_bytes"], f'"{found[name]["sha256"]}"'

        def part(asked: str, url: str = url, **headers: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {stack.token}", "Range": asked, **headers}
            return httpx.get(url, headers=headers)

        for at in (1, 700, size - 1):
            parts = [part(f"bytes=0-{at - 1}"), part(f"bytes={at}-", **{"If-Range": etag})]
            assert [answer.status_code for answer in parts] == [206, 206]
            assert parts[1].headers["Content-Range"] == f"bytes {at}-{size - 1}/{size}"
            assert parts[1].headers["Content-Type"] == content_type
            whole = b"".join(answer.content for answer in parts)
            assert hashlib.sha256(whole).hexdigest() == found[name]["sha256"], (name, at)
        assert part("bytes=-10").content == whole[-10:]
        assert part(f"bytes={size}-").status_code == 416
        other = part("bytes=5-", **{"If-Range": '"another version"'})
        assert (other.status_code, other.content) == (200, whole)


def test_a_version_is_scored_again_on_its_own_test_rows_and_on_all(
    client: Client, stack: RunningStack, tabular, data: Path, tmp_path: Path
) -> None:
    def scored(dataset: str) -> dict[str, Any]:
        answer = asked(stack, "/models/breast-cancer/versions/1/evaluations", data={"uri": dataset})
        assert answer.status_code == 202, answer.text
        job = client.wait(answer.json()["id"], timeout_s=60)
        assert job.status == "succeeded", job.error
        return job.raw["result"]

    everything = scored("dataset://breast-cancer")
    assert (everything["model"], everything["version"], everything["rows"]) == ("breast-cancer", 1, 569)
    judgement = json.loads(
        client.download("breast-cancer", 1, "judgement", tmp_path / "judgement").read_text()
    )
    assert everything["outputs"].keys() == judgement["outputs"].keys()
    assert everything["metrics"]["accuracy"] >= 0.92
    jobs = client.jobs(model="breast-cancer", kind="evaluate")
    assert [job.raw["result"]["rows"] for job in jobs] == [569]


def test_artifacts_are_added_to_a_version_that_stays_as_it_is(
    client: Client, stack: RunningStack, tabular, tmp_path: Path
) -> None:
    before = client.version("breast-cancer", 1).raw["artifacts"]
    wanted = [
        {"format": "keras"},
        {"format": "onnx", "name": "onnx-old", "opset": 15},
        {"format": "tfjs", "quantization": "uint8"},
    ]
    job = client.wait(client.export("breast-cancer", 1, wanted).id, timeout_s=120)
    assert job.status == "succeeded", job.error
    added = client.version("breast-cancer", 1).raw["artifacts"]
    assert added[: len(before)] == before
    assert [each["name"] for each in added[len(before) :]] == ["keras", "onnx-old", "tfjs-uint8"]
    for artifact in added[len(before) :]:
        assert artifact["parity"]["agrees"] is True
        assert artifact["job_id"] == job.id
        content = client.download(
            "breast-cancer", 1, artifact["name"], tmp_path / artifact["name"]
        ).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert [each.version for each in client.versions("breast-cancer")] == [1]
    with pytest.raises(ProblemError, match="has an artifact 'onnx' already"):
        client.export("breast-cancer", 1, [{"format": "onnx"}])
    with pytest.raises(ProblemError, match="leave it out"):
        client.export("breast-cancer", 1, [{"format": "saved_model"}])


@pytest.mark.full
def test_a_version_is_fine_tuned_into_another_model(client: Client, tabular) -> None:
    head = [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}]
    spec = example("breast_cancer", name="tuned", export=[], fit={"epochs": 2})
    spec["model"] = {"kind": "version", "name": "breast-cancer", "freeze": "*", "head": head}
    tuned = client.wait(client.submit(spec).id, timeout_s=120)
    assert tuned.status == "succeeded", tuned.error
    assert tuned.raw["spec"]["model"]["version"] == 1
    assert client.version("tuned", 1, wait_s=30).serving.state == "AVAILABLE"


def test_a_job_whose_signature_differs_from_the_present_versions_publishes_nothing(
    client: Client, tabular, breast_cancer: str
) -> None:
    spec = example("breast_cancer", fit={"epochs": 1}, export=[])
    spec["data"]["features"] = ["mean_radius", "mean_texture"]
    job = client.wait(client.submit(spec).id, timeout_s=120)
    assert (job.status, job.error.code) == ("failed", "signature_changed")
    assert "input 'features' was float32 (*, 30), is float32 (*, 2)" in job.error.detail
    assert "allow_signature_change" in job.error.remedy
    assert job.raw["metrics"] is None  # nothing was trained in vain
    assert [each.version for each in client.versions("breast-cancer")] == [1]


def test_a_dry_run_answers_as_the_job_would_and_with_every_fault(
    client: Client, stack: RunningStack, breast_cancer
) -> None:
    sound = asked(stack, "/jobs:validate", **example("breast_cancer"))
    assert sound.is_success, sound.text
    told = sound.json()
    if sound.status_code == 202:  # exports are tried, which takes its time on a busy machine
        told = client.wait(told["id"], timeout_s=120).raw["result"]
    assert sum(told["rows"].values()) == 569
    assert told["model"]["parameters"] > 0
    assert [(each["name"], each["feasible"]) for each in told["exports"]][:2] == [
        ("saved_model", True),
        ("tflite", True),
    ]
    assert told["warnings"] == []
    wrong = example("breast_cancer")
    wrong["compile"] = {"optimizer": "adam", "loss": "categorical_crossentropy"}
    wrong["fit"]["class_weight"] = {"2": 1.0}
    refused = asked(stack, "/jobs:validate", **wrong)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/data/label", "/fit/class_weight/2"]


def asked(stack: RunningStack, path: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stack.token}"}
    return httpx.post(f"{stack.addresses.api}/v1{path}", headers=headers, json=body, timeout=60)


def test_a_version_says_how_it_was_trained_and_how_it_does(client: Client, tabular, tmp_path: Path) -> None:
    def read(name: str) -> str:
        return client.download("breast-cancer", 1, name, tmp_path / name).read_text()

    curves = list(csv.DictReader(read("curves").splitlines()))
    points = [event.data for event in client.events(tabular.id) if event.kind == "metric"]
    assert [float(row["val_loss"]) for row in curves] == [point["metrics"]["val_loss"] for point in points]
    assert [row["loss"] for row in csv.DictReader(read("csv_log").splitlines())] == [
        row["loss"] for row in curves
    ]
    judgement = json.loads(read("judgement"))
    (found,) = judgement["outputs"].values()
    assert (judgement["part"], sum(map(sum, found["confusion_matrix"]))) == ("test", judgement["rows"])
    assert found["accuracy"] == pytest.approx(tabular.raw["metrics"]["test"]["accuracy"], abs=1e-6)


def test_a_bad_spec_is_refused_with_every_pointer_before_anything_is_queued(
    client: Client, breast_cancer: str
) -> None:
    spec = example("breast_cancer")
    spec["model"]["layers"][1]["class_name"] = "Dens"
    spec["model"]["layers"][4]["config"]["units"] = "one"
    spec["data"]["features"][3] = "mean_aera"
    spec["fit"]["epochs"] = "many"
    spec["epoch"] = 3
    before = [job.id for job in client.jobs()]
    with pytest.raises(ProblemError) as refused:
        client.submit(spec)
    problem = refused.value
    assert (problem.status, problem.code) == (422, "invalid_spec")
    told = {error.pointer: error.detail for error in problem.errors}
    assert set(told) == {
        "/model/layers/1/class_name",
        "/model/layers/4/config/units",
        "/data/features/3",
        "/fit/epochs",
        "/epoch",
    }
    assert "Dense" in told["/model/layers/1/class_name"]
    assert "mean_area" in told["/data/features/3"]
    assert [job.id for job in client.jobs()] == before


def test_a_text_cell_in_a_number_column_ends_the_job_with_its_place(
    client: Client, data: Path, tmp_path: Path
) -> None:
    lines = (data / "breast_cancer.csv").read_text().splitlines()
    cells = lines[17].split(",")
    cells[2] = "n/a?"
    lines[17] = ",".join(cells)
    (tmp_path / "broken.csv").write_text("\n".join(lines))
    client.upload(tmp_path / "broken.csv", name="broken")
    spec = example("breast_cancer", name="broken")
    spec["data"] |= {"uri": "dataset://broken", "columns": {"mean_perimeter": {"kind": "number"}}}
    job = client.wait(client.submit(spec).id, timeout_s=120)
    assert job.status == "failed"
    assert job.error.code == "invalid_data"
    assert job.raw["error"]["location"] == {"row": 17, "column": "mean_perimeter"}


def test_a_running_job_is_cancelled_soon_and_leaves_nothing(
    client: Client, stack: RunningStack, digits: str
) -> None:
    job = client.submit(example("digits", name="cancelled", fit={"epochs": 1000}))
    wait_for(lambda: client.job(job.id).progress is not None)
    asked = time.monotonic()
    client.cancel(job.id)
    job = client.wait(job.id, timeout_s=30)
    assert job.status == "cancelled"
    assert time.monotonic() - asked < 6
    assert [move["status"] for move in job.raw["transitions"]] == [
        "queued",
        "running",
        "cancelling",
        "cancelled",
    ]
    assert client.cancel(job.id).status == "cancelled"
    assert not list((stack.home / "store").glob("cancelled/*"))
    assert [model.name for model in client.models() if model.name == "cancelled"] == []


def test_the_same_key_makes_one_job(client: Client, breast_cancer: str) -> None:
    spec = example("breast_cancer", name="keyed", fit={"epochs": 1})
    jobs = {client.submit(spec, idempotency_key="once").id for _ in range(3)}
    assert len(jobs) == 1
    client.cancel(jobs.pop())


@pytest.mark.full
def test_a_second_version_takes_over_without_a_failed_request(
    client: Client, stack: RunningStack, digits: str
) -> None:
    """Four threads ask all the time; each sees version 1, then version 2, and no error."""
    quick = example("digits", name="swap", fit={"epochs": 2}, export=[])
    first = client.wait(client.submit(quick).id, timeout_s=240)
    assert first.status == "succeeded", first.error
    client.version("swap", 1, wait_s=30)
    rows = np.zeros((1, 8, 8, 1), np.float32)
    stop = threading.Event()
    seen: list[list[int]] = [[] for _ in range(4)]
    failures: list[Exception] = []

    def ask(versions: list[int]) -> None:
        with Predictor(stack.addresses.serving_grpc) as predictor:
            while not stop.is_set():
                try:
                    versions.append(predictor.predict("swap", rows).version)
                except Exception as error:
                    failures.append(error)
                time.sleep(0.01)

    threads = [threading.Thread(target=ask, args=(versions,)) for versions in seen]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    second = client.wait(client.submit(quick).id, timeout_s=240)
    assert second.raw["result"]["version"] == 2
    client.version("swap", 2, wait_s=30)
    wait_for(lambda: all(versions[-1] == 2 for versions in seen), within_s=30)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    requests = sum(len(versions) for versions in seen)
    assert requests / (time.monotonic() - began) >= 50
    for versions in seen:
        changes = [pair for pair in itertools.pairwise(versions) if pair[0] != pair[1]]
        assert changes == [(1, 2)]


@pytest.mark.full
def test_the_command_line_submits_watches_and_predicts(
    stack: RunningStack, digits: str, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(example("digits", name="cli", fit={"epochs": 2}, export=[])))
    environment = {"FITSERVE_HOME": str(stack.home), "PATH": "/usr/bin:/bin"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FITSERVE, *words], env=environment, capture_output=True, text=True, check=False
        )

    watched = run("submit", str(spec), "--watch")
    assert watched.returncode == 0, watched.stderr
    assert "epoch 2/2" in watched.stdout
    assert "published cli version 1" in watched.stdout
    wait_for(lambda: run("predict", "cli", "--instances", json.dumps([[[[0.0]] * 8] * 8])).returncode == 0)
    refused = run("submit", str(tmp_path / "spec.json"), "--json", "--set", "fit.epochs=many")
    assert refused.returncode == 2
    assert "/fit/epochs" in refused.stdout + refused.stderr
