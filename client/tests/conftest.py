"""Two real servers on loopback: an HTTP API that speaks the contract, and TensorFlow Serving's gRPC wire."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

TOKEN = "a-token-of-the-tests"
ARTIFACT = bytes(range(256)) * 5000


@dataclass
class FakeApi:
    """The contract's server in memory; tests put jobs and events in and read the requests that came."""

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[tuple[int, str, dict[str, Any]]]] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)  # one stream each: break it after so many events
    keep_open: bool = False  # ping for ever where the events end
    keys: dict[str, str] = field(default_factory=dict)
    trains_at_once: bool = False  # a submitted job has already succeeded
    drop_next_answer: bool = False  # break the next POST's connection after doing what it asks
    etag: str = hashlib.sha256(ARTIFACT).hexdigest()
    streams: list[str] = field(default_factory=list)  # the Last-Event-ID of each stream opened
    requests: list[tuple[str, str]] = field(default_factory=list)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)  # bodies of predictions

    def add_job(self, job_id: str, status: str = "queued", **fields: Any) -> dict[str, Any]:
        body = {
            "id": job_id,
            "name": "digits",
            "kind": "train",
            "status": status,
            "phase": None,
            "error": None,
            "created_at": "2030-01-02T03:04:05.678Z",
            "progress": None,
            "metrics": None,
            "result": None,
            "a_field_of_a_newer_server": 1,
            **fields,
        }
        self.jobs[job_id] = body
        self.events.setdefault(job_id, [])
        return body

    def add_training(self, job_id: str, ending: str = "succeeded") -> None:
        """A job of two epochs with all its events, already told."""
        result = {
            "model": "digits",
            "version": 3,
            "artifacts": [
                {
                    "name": "tflite",
                    "format": "tflite",
                    "size_bytes": 12_345,
                    "parity": {"agrees": True, "max_abs_diff": 3e-8},
                    "latency_ms": {"1": {"median": 0.2, "p99": 0.3}, "64": {"median": 0.9, "p99": 1.1}},
                }
            ],
        }
        error = {
            "code": "nan_loss",
            "detail": "loss became NaN in epoch 2",
            "remedy": "lower the learning rate",
        }
        self.add_job(
            job_id,
            ending,
            result=result if ending == "succeeded" else None,
            error=error if ending == "failed" else None,
        )
        last = {"status": ending} | ({"error": error} if ending == "failed" else {})
        told = [
            ("status", {"status": "queued"}),
            ("status", {"status": "running", "phase": "training"}),
            ("progress", {"epoch": 1, "epochs": 2, "step": 5, "steps_per_epoch": 10, "fraction": 0.25}),
            ("metric", {"epoch": 1, "step": 10, "metrics": {"loss": 0.5, "accuracy": 0.8, "val_loss": 0.6}}),
            ("log", {"message": "a line\u2028with a separator of its own"}),
            ("progress", {"epoch": 2, "epochs": 2, "step": 10, "steps_per_epoch": 10, "fraction": 1.0}),
            ("metric", {"epoch": 2, "step": 20, "metrics": {"loss": 0.25, "accuracy": 0.9, "val_loss": 0.4}}),
            *([("version", {"model": "digits", "version": 3})] if ending == "succeeded" else []),
            ("status", last),
        ]
        self.events[job_id] = [(number, kind, data) for number, (kind, data) in enumerate(told, start=1)]


def refusal(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, **more}
    return JSONResponse(body | {"request_id": "req_1"}, status, media_type="application/problem+json")


def make_app(api: FakeApi) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def door(request: Request, call_next: Callable[[Request], Any]) -> Response:
        api.requests.append((request.method, request.url.path))
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return refusal(401, "unauthorized", "a bearer token is wanted")
        return await call_next(request)

    @app.post("/v1/jobs")
    async def submit(request: Request) -> Response:
        spec = json.loads(await request.body())
        if "epochs" not in spec.get("fit", {}):
            faults = [
                {"pointer": "/fit/epochs", "detail": "is missing"},
                {"pointer": "/model/layers/0/config/unit", "detail": "unknown; did you mean units?"},
            ]
            return refusal(422, "invalid_spec", "the spec has 2 faults", errors=faults)
        key = request.headers["idempotency-key"]
        job_id = api.keys.setdefault(key, f"job_{len(api.keys) + 1}")
        job = api.jobs.get(job_id) or api.add_job(job_id, spec=spec)
        if api.trains_at_once:
            api.add_training(job_id)
        if api.drop_next_answer:
            api.drop_next_answer = False
            return StreamingResponse(broken(), headers={"content-length": "100"})
        return JSONResponse(job, 202, {"Location": f"/v1/jobs/{job_id}"})

    async def broken() -> Any:
        yield b"{"
        raise ConnectionResetError

    @app.get("/v1/jobs")
    def jobs(status: str | None = None, after: int = 0, limit: int = 20) -> Any:
        found = [job for job in api.jobs.values() if status in {None, job["status"]}]
        end = after + min(limit, 2)  # small pages, so that tests see several
        return {"data": found[after:end], "has_more": end < len(found), "next": str(end)}

    @app.get("/v1/jobs/{job_id}")
    def job(job_id: str, wait: float = 0) -> Any:
        deadline = time.monotonic() + wait
        while job_id in api.jobs and api.jobs[job_id]["status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.01)
        return api.jobs.get(job_id) or refusal(404, "not_found", f"there is no job {job_id!r}")

    @app.post("/v1/jobs/{job_id}/cancel")
    def cancel(job_id: str) -> Any:
        if job_id not in api.jobs:
            return refusal(404, "not_found", f"there is no job {job_id!r}")
        if api.jobs[job_id]["status"] == "succeeded":
            return refusal(409, "illegal_move", f"job {job_id} has succeeded")
        api.jobs[job_id]["status"] = "cancelled"
        return api.jobs[job_id]

    @app.get("/v1/jobs/{job_id}/events")
    async def events(job_id: str, request: Request, after: int = 0, limit: int = 100) -> Any:
        if job_id not in api.jobs:
            return refusal(404, "not_found", f"there is no job {job_id!r}")
        if "text/event-stream" not in request.headers["accept"]:
            left = [each for each in api.events[job_id] if each[0] > after]
            return {"data": left[:limit], "has_more": len(left) > limit, "next": None}
        api.streams.append(request.headers["last-event-id"])
        start = int(request.headers["last-event-id"])
        return StreamingResponse(stream(job_id, start), media_type="text/event-stream")

    async def stream(job_id: str, start: int) -> Any:
        yield b"retry: 10\r\n\r\n"
        sent = 0
        limit = api.break_after.pop(0) if api.break_after else None
        for number, kind, data in api.events[job_id]:
            if number <= start:
                continue
            if sent == limit:
                yield b"id: 999\ndata: half of an ev"
                raise ConnectionResetError
            text = f": ping\n\nid: {number}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
            yield text.encode()
            sent += 1
        while api.keep_open:
            yield b": ping\n\n"
            await asyncio.sleep(0.05)

    @app.post("/v1/datasets")
    async def upload(request: Request) -> Response:
        uri = None
        if request.headers["content-type"] == "application/json":
            asked = await request.json()
            uri, name, filename = asked["uri"], asked.get("name"), "d.csv"
            if "allowed" not in uri:
                faults = [{"pointer": "/uri", "detail": "not allowed here"}]
                return refusal(422, "invalid_spec", "1 error in the body", errors=faults)
            content = uri.encode()
        else:
            async with request.form() as form:
                file, name = form["file"], form.get("name")
                assert not isinstance(file, str)
                content, filename = await file.read(), file.filename
        status = "failed" if b"broken" in content else "pending" if b"slow" in content else "ready"
        body = {
            "id": "ds_1",
            "name": name,
            "uri": uri,
            "digest": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            "kind": "csv",
            "filename": filename,
            "status": status,
            "schema": {"columns": [], "rows": 2},
            "anomalies": [{"column": "y", "row": 2, "detail": "1 missing"}] if b",\n" in content else [],
            "error": {"code": "invalid_data", "detail": "row 2 is short"} if status == "failed" else None,
        }
        api.datasets["ds_1"] = body
        return JSONResponse(body, 202 if status == "pending" else 201)

    @app.get("/v1/datasets")
    def datasets() -> Any:
        return {"data": list(api.datasets.values()), "has_more": False, "next": None}

    @app.delete("/v1/datasets/{dataset_id}")
    def delete_dataset(dataset_id: str) -> Response:
        if dataset_id == "ds_used":
            return refusal(409, "dataset_in_use", "data set ds_used is used by job_1")
        if api.datasets.pop(dataset_id, None) is None:
            return refusal(404, "not_found", f"there is no data set {dataset_id!r}")
        return Response(status_code=204)

    @app.get("/v1/datasets/{dataset_id}")
    def dataset(dataset_id: str) -> Any:
        api.datasets[dataset_id]["status"] = "ready"
        return api.datasets[dataset_id]

    @app.get("/v1/models")
    def models() -> Any:
        return {
            "data": [{"name": "digits", "versions": [3, 1], "latest": 3}],
            "has_more": False,
            "next": None,
        }

    def version_body(model: str, n: int) -> dict[str, Any]:
        artifact = {"name": "tflite", "format": "tflite", "size_bytes": len(ARTIFACT), "sha256": api.etag}
        serving = {"state": "AVAILABLE", "checked_at": "2030-01-02T03:04:05Z", "error": None}
        return {
            "model": model,
            "version": n,
            "job_id": "job_1",
            "artifacts": [artifact],
            "serving": serving,
            "signature": {
                "serving_default": {
                    "inputs": [
                        {"name": "age", "dtype": "float32", "shape": [None]},
                        {"name": "city", "dtype": "string", "shape": [None]},
                        {"name": "rooms", "dtype": "int64", "shape": [None]},
                    ]
                },
                "core": {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2]}]},
            },
        }

    @app.get("/v1/models/{model}/versions")
    def versions(model: str) -> Any:
        return {"data": [version_body(model, 3), version_body(model, 1)], "has_more": False, "next": None}

    @app.get("/v1/models/{model}/versions/{n}")
    def version(model: str, n: int) -> Any:
        return version_body(model, n) if n == 3 else refusal(404, "not_found", f"{model} has no version {n}")

    @app.get("/v1/models/{model}/versions/{n}/artifacts/{name}")
    def artifact(model: str, n: int, name: str) -> Response:
        if (model, n, name) != ("digits", 3, "tflite"):
            return refusal(404, "not_found", f"{model} version {n} has no artifact {name!r}")
        return Response(ARTIFACT, headers={"ETag": f'"{api.etag}"'})

    @app.post("/v1/models/{which:path}")
    async def predict(which: str, request: Request) -> Response:
        asked = json.loads(await request.body())
        api.asked.append((which, asked))
        if which.startswith("absent"):
            return JSONResponse({"error": "Servable not found for request: Latest(absent)"}, 404)
        # NaN bare, as TF Serving writes it.
        return Response('{"predictions": [[0.25, NaN]]}', media_type="application/json")

    return app


@pytest.fixture(scope="session")
def running_api() -> Iterator[tuple[FakeApi, str]]:
    listener = socket.create_server(("127.0.0.1", 0))
    api = FakeApi()
    config = uvicorn.Config(make_app(api), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield api, f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def api(running_api: tuple[FakeApi, str]) -> FakeApi:
    """The running server, forgetful of the tests before."""
    server, url = running_api
    server.__dict__.update(FakeApi(url=url).__dict__)
    return server


@pytest.fixture
def client(api: FakeApi) -> Iterator[Any]:
    from fitserve import Client

    with Client(api.url, TOKEN) as connected:
        yield connected


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def fitserve(api: FakeApi, tmp_path: Path) -> Callable[..., Ran]:
    """The real command in a process of its own, told of the server by its environment alone."""

    def run(*arguments: str, stdin: str = "", **environ: str) -> Ran:
        command = [sys.executable, "-c", "from fitserve.cli import main; main()", *arguments]
        told = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "FITSERVE_URL": api.url,
            "FITSERVE_TOKEN": TOKEN,
            "FITSERVE_HOME": str(tmp_path / "home"),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            command,
            input=stdin,
            env=told | environ,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def serving() -> Iterator[str]:
    """The address of a gRPC server that speaks through tensorflow_serving's own protos."""
    script = Path(__file__).with_name("serving_process.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.isdecimal(), f"the serving process did not start: {line!r}"
    yield f"127.0.0.1:{line}"
    process.stdin.close()  # it ends with its pipe
    process.wait(20)
    process.stdout.close()
