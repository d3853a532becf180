"""Somebody who submits jobs over HTTP, and never believes that a request that got no answer did nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

IN_FLIGHT = 5
ASK_AGAIN_AFTER_S = 0.2
LOOK_EVERY_S = 0.3
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Accepted:
    """A job that was answered with 202."""

    key: str
    job: str
    spec: int
    status: str = "queued"


@dataclass
class Customer:
    """Keeps some jobs in flight while `wants_more` says so; asks either API, and again after any failure."""

    apis: Sequence[str]
    token: str
    specs: Sequence[Mapping[str, Any]]
    seed: int
    wants_more: Callable[[int], bool]
    accepted: list[Accepted] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    """Keys that were answered with two jobs."""
    refused: list[str] = field(default_factory=list)
    requests: int = 0
    repeats: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="customer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join()

    @property
    def waiting(self) -> list[Accepted]:
        return [each for each in self.accepted if each.status not in ENDED]

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        # Our own ports: a proxy of the environment is for the world outside.
        with httpx.Client(headers=headers, timeout=5, trust_env=False) as http:
            while not self._leaving.is_set():
                if len(self.waiting) < IN_FLIGHT and self.wants_more(len(self.accepted)):
                    self._submit(http)
                else:
                    self._look(http)
                    self._leaving.wait(LOOK_EVERY_S)

    def _submit(self, http: httpx.Client) -> None:
        number = len(self.accepted)
        key, which = f"faults-{self.seed}-{number}", number % len(self.specs)
        job = self._post(http, key, which)
        if job is None:
            return
        self.accepted.append(Accepted(key, job, which))
        # A client that never saw the answer repeats itself.
        if self._dice.random() < 0.3:
            self.repeats += 1
            again = self._post(http, key, which)
            if again not in (job, None):
                self.doubled.append(f"{key}: {job} and {again}")

    def _post(self, http: httpx.Client, key: str, which: int) -> str | None:
        while not self._leaving.is_set():
            self.requests += 1
            api = self._dice.choice(self.apis)
            try:
                answer = http.post(f"{api}/v1/jobs", json=self.specs[which], headers={"Idempotency-Key": key})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return str(answer.json()["id"])
            if answer is not None and answer.status_code < 500:
                self.refused.append(f"{answer.status_code} {answer.text[:300]}")
                self._leaving.set()
                return None
            self._leaving.wait(ASK_AGAIN_AFTER_S)
        return None

    def _look(self, http: httpx.Client) -> None:
        for each in self.waiting:
            try:
                answer = http.get(f"{self._dice.choice(self.apis)}/v1/jobs/{each.job}")
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                each.status = answer.json()["status"]
            elif answer.status_code < 500:
                self.refused.append(f"{each.job}: {answer.status_code} {answer.text[:300]}")
                each.status = "failed"


def wait_until_read(api: str, token: str, file: tuple[str, bytes], *, within_s: float = 60) -> str:
    """Upload a data set and wait until the service has read it; its id."""
    headers = {"Authorization": f"Bearer {token}"}
    deadline = time.monotonic() + within_s
    with httpx.Client(base_url=api, headers=headers, timeout=30, trust_env=False) as http:
        answer = http.post("/v1/datasets", files={"file": file}, data={"name": "digits"})
        answer.raise_for_status()
        id_ = str(answer.json()["id"])
        while (status := http.get(f"/v1/datasets/{id_}").json()["status"]) != "ready":
            if status == "failed" or time.monotonic() > deadline:
                raise RuntimeError(f"data set {id_} is {status}")
            time.sleep(0.1)
    return id_
