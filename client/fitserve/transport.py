"""HTTP as the client needs it: the token, an error for each refusal, further tries where they do no harm."""

# ruff: noqa: ANN401 - documents are JSON of any shape, which only the caller knows

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from fitserve.errors import DeadlineExceededError, ServerFailedError, UnavailableError, problem
from fitserve.settings import is_loopback

CONNECT_TIMEOUT_S = 5.0
# Pauses before the second and third try of a request that may be repeated.
RETRY_PAUSES_S = (0.1, 0.4)


class Transport:
    """One server, one token, one pool of connections."""

    def __init__(self, api: str, token: str | None, timeout_s: float) -> None:
        self.api = api
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=api,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            # A proxy of the environment could not reach this machine's own loopback.
            trust_env=not is_loopback(urlsplit(api).hostname),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None, wait_s: float = 0.0) -> Any:
        """GET a JSON document; `wait_s` is how long the server may hold the answer back."""
        return self.send("GET", path, params=params, wait_s=wait_s, repeatable=True)

    def post(
        self,
        path: str,
        document: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        repeatable: bool = False,
    ) -> Any:
        """POST a JSON document and return the answer's; `repeatable` where a repeat does no harm."""
        # Not httpx's own `json=`, which refuses the NaN and Infinity that TF Serving's JSON allows.
        content = b"" if document is None else json.dumps(document, separators=(",", ":")).encode()
        return self.send(
            "POST",
            path,
            content=content,
            headers={"Content-Type": "application/json", **(headers or {})},
            timeout_s=timeout_s,
            repeatable=repeatable,
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float | None = None,
        wait_s: float = 0.0,
        repeatable: bool = False,
        **request: Any,
    ) -> Any:
        """Send a request (`request` as httpx takes it) and return the JSON of the answer.

        Raises:
            ProblemError: the server refused.
            UnavailableError: nothing answers.
            DeadlineExceededError: connected, but no answer in time.
        """
        limit_s = (self._timeout_s if timeout_s is None else timeout_s) + wait_s
        timeout = httpx.Timeout(limit_s, connect=min(CONNECT_TIMEOUT_S, limit_s))
        for pause_s in RETRY_PAUSES_S if repeatable else ():
            try:
                return self._once(method, path, timeout, request)
            except UnavailableError:
                time.sleep(pause_s)
        return self._once(method, path, timeout, request)

    @contextmanager
    def stream(
        self, path: str, *, read_timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """GET an answer whose body is read piece by piece; `read_timeout_s` bounds the silence between two.

        Raises:
            ProblemError: the server refused.
            UnavailableError: nothing answers, or the connection broke on the way.
            DeadlineExceededError: silent for too long.
        """
        timeout = httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S, read=read_timeout_s)
        with (
            self._translated(),
            self._http.stream("GET", path, timeout=timeout, headers=headers) as response,
        ):
            if not response.is_success:
                response.read()
                _raise(response)
            yield response

    def _once(self, method: str, path: str, timeout: httpx.Timeout, request: Mapping[str, Any]) -> Any:
        with self._translated():
            response = self._http.request(method, path, timeout=timeout, **request)
        if not response.is_success:
            _raise(response)
        return _json(response) if response.content else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise UnavailableError(f"no server answers at {self.api}: connecting took too long") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceededError(
                f"{self.api} did not answer in time: {type(error).__name__}"
            ) from error
        except httpx.TransportError as error:
            raise UnavailableError(f"no server answers at {self.api}: {error}") from error


def _raise(response: httpx.Response) -> None:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"detail": response.text[:500] or response.reason_phrase}
    elif "detail" not in document and "error" in document:  # TF Serving's own form, through the proxy
        document["detail"] = document["error"]
    raise problem(response.status_code, document)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("Content-Type", "no type")
        raise ServerFailedError(f"{response.url} answered {kind} where JSON was expected") from error
