"""Jobs, data sets, models and artifacts over HTTP."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from fitserve import rows, settings
from fitserve.errors import ChecksumMismatchError, DeadlineExceededError, InvalidInputError, ServerFailedError
from fitserve.following import SILENCE_S, follow
from fitserve.results import Dataset, Event, Job, Model, ModelVersion
from fitserve.transport import Transport

LONG_POLL_S = 30.0  # the longest the server holds an answer back
PAGE_SIZE = 100
UPLOAD_TIMEOUT_S = 300.0
ANSWER_S = 2 * LONG_POLL_S  # what the server holds back, and the way
DEFAULT_SIGNATURE = "serving_default"
RESULT = TypeVar("RESULT")


class Client:
    """A fitserve server: submit jobs, follow them, fetch what they published.

    Without arguments it finds the server and the token as `fitserve.settings` tells. Threads may share it.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        found = settings.load(url, token)
        self.url = found.api
        self._http = Transport(found.api, found.token, timeout_s)

    def submit(self, spec: Mapping[str, Any], idempotency_key: str | None = None) -> Job:
        """Submit a job; the same key submits the same job once, however often it is sent.

        Raises:
            InvalidInputError: the spec was refused; as a ProblemError it carries a pointer for each fault.
        """
        # With a key of its own a broken connection may be tried again without starting two jobs.
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Job.of(self._http.post("/v1/jobs", spec, headers=headers, repeatable=True))

    def job(self, id: str, wait_s: float | None = None) -> Job:  # noqa: A002 - the API's own word
        """Return a job; with `wait_s` (at most 30) when it has ended or the time is over."""
        params = {} if wait_s is None else {"wait": _seconds(wait_s)}
        return Job.of(self._http.get(f"/v1/jobs/{_part(id)}", params, wait_s=wait_s or 0.0))

    def jobs(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        kind: str | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Iterate over jobs in the server's order, page by page; `limit` bounds how many in all."""
        filters = {"status": status, "model": model, "kind": kind, "label": label}
        return self._pages("/v1/jobs", Job.of, filters, limit)

    def cancel(self, id: str) -> Job:  # noqa: A002 - the API's own word
        """Ask a job to stop; repeating is harmless.

        Raises:
            ConflictError: it has already ended otherwise.
        """
        return Job.of(self._http.post(f"/v1/jobs/{_part(id)}/cancel", repeatable=True))

    def events(
        self,
        id: str,  # noqa: A002 - the API's own word
        after: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[Event]:
        """Iterate over a job's events as they happen, each once, up to the one that ends the job.

        A broken stream is taken up again after the last event seen.

        Raises:
            NotFoundError: no such job.
            DeadlineExceededError: the job has not ended within timeout_s.
            UnavailableError: the server is gone for more than a minute.
        """
        return follow(self._http, f"/v1/jobs/{_part(id)}", after or 0, timeout_s)

    def wait(self, id: str, timeout_s: float | None = None) -> Job:  # noqa: A002 - the API's own word
        """Wait until the job has ended, however it did, and return it.

        Raises:
            DeadlineExceededError: it has not ended within timeout_s; it goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = LONG_POLL_S if deadline is None else min(LONG_POLL_S, deadline - time.monotonic())
            started = time.monotonic()
            job = self.job(id, wait_s=max(0.0, left_s))
            if job.is_finished:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceededError(
                    f"job {id} is still {job.status} after {timeout_s:g} s; it goes on"
                )
            if time.monotonic() - started < 0.1:  # a server that is closing doesn't hold answers back
                time.sleep(0.1)

    def upload(
        self,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
        *,
        uri: str | None = None,
    ) -> Dataset:
        """Make a data set of a file here, or of what a `uri` names and a worker of the server fetches.

        Returns when the server has read it, however that went: see `status` and `error`.

        Raises:
            InvalidInputError: the server refuses the file, or doesn't allow the URI.
            DeadlineExceededError: it could not be read within five minutes; the server goes on.
        """
        if (path is None) == (uri is None):
            raise InvalidInputError("give either a path or a uri")
        deadline = time.monotonic() + UPLOAD_TIMEOUT_S
        dataset = self._add(uri, name) if uri is not None else self._send(Path(path or ""), name)
        while dataset.status == "pending":
            if time.monotonic() > deadline:
                raise DeadlineExceededError(
                    f"data set {dataset.id} is still pending after {UPLOAD_TIMEOUT_S:g} s"
                )
            time.sleep(0.5)
            dataset = self.dataset(dataset.id)
        return dataset

    def _add(self, uri: str, name: str | None) -> Dataset:
        document = {"uri": uri} | ({"name": name} if name else {})
        # The same URI, or name, is the same data set, so asking again does no harm.
        body = self._http.post("/v1/datasets", document, timeout_s=ANSWER_S, repeatable=True)
        return Dataset.of(body)

    def _send(self, source: Path, name: str | None) -> Dataset:
        with source.open("rb") as file:
            body = self._http.send(
                "POST",
                "/v1/datasets",
                files={"file": (source.name, file, "application/octet-stream")},
                data={"name": name} if name else {},
                wait_s=LONG_POLL_S,
            )
        return Dataset.of(body)

    def delete_dataset(self, id: str) -> None:  # noqa: A002 - the API's own word
        """Delete a data set.

        Raises:
            ConflictError: a waiting or running job uses it.
        """
        self._http.send("DELETE", f"/v1/datasets/{_part(id)}")

    def dataset(self, id: str) -> Dataset:  # noqa: A002 - the API's own word
        """Return a data set."""
        return Dataset.of(self._http.get(f"/v1/datasets/{_part(id)}"))

    def datasets(self, *, limit: int | None = None) -> Iterator[Dataset]:
        """Iterate over the data sets."""
        return self._pages("/v1/datasets", Dataset.of, {}, limit)

    def models(self, *, limit: int | None = None) -> Iterator[Model]:
        """Iterate over the models that have a published version."""
        return self._pages("/v1/models", Model.of, {}, limit)

    def versions(self, model: str, *, limit: int | None = None) -> Iterator[ModelVersion]:
        """Iterate over a model's published versions."""
        return self._pages(f"/v1/models/{_part(model)}/versions", ModelVersion.of, {}, limit)

    def version(self, model: str, n: int, wait_s: float | None = None) -> ModelVersion:
        """Return a version; with `wait_s` (at most 30) when serving has it AVAILABLE or the time is over."""
        params = {} if wait_s is None else {"wait": _seconds(wait_s)}
        path = f"/v1/models/{_part(model)}/versions/{n}"
        return ModelVersion.of(self._http.get(path, params, wait_s=wait_s or 0.0))

    def export(self, model: str, n: int, export: Sequence[Mapping[str, Any]]) -> Job:
        """Have artifacts added to a published version, entries as in a job's `export`; return their job.

        The version stays as it is; when the job has succeeded, its artifacts are listed and downloaded with
        the others.
        """
        path = f"/v1/models/{_part(model)}/versions/{n}/exports"
        return Job.of(self._http.post(path, {"export": [dict(entry) for entry in export]}))

    def download(self, model: str, n: int, artifact: str, to: str | os.PathLike[str]) -> Path:
        """Fetch an artifact into a file, or into a folder under its own name, and check its digest.

        The file appears whole or not at all.

        Raises:
            ChecksumMismatchError: the bytes are not those that were published.
        """
        target = Path(to)
        if target.is_dir():
            if Path(artifact).name != artifact:
                raise InvalidInputError(f"an artifact's name is no path. Received: {artifact!r}")
            target /= artifact
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        path = f"/v1/models/{_part(model)}/versions/{n}/artifacts/{_part(artifact)}"
        try:
            # Asked for as they are: compression on the way would change the bytes the digest is of.
            with self._http.stream(
                path, read_timeout_s=SILENCE_S, headers={"Accept-Encoding": "identity"}
            ) as answer:
                expected = (
                    answer.headers.get("ETag", "").removeprefix("W/").strip('"').removeprefix("sha256:")
                )
                digest = hashlib.sha256()
                with part.open("wb") as file:
                    for chunk in answer.iter_bytes(1 << 20):
                        digest.update(chunk)
                        file.write(chunk)
            if digest.hexdigest() != expected:
                raise ChecksumMismatchError(
                    f"{artifact} of {model} version {n} should have sha256 {expected or '(none told)'}."
                    f" Received: {digest.hexdigest()}"
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def predict(
        self,
        model: str,
        instances: Sequence[Any] | Mapping[str, Sequence[Any]],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Ask a served model over HTTP, in TF Serving's row form, and return its `predictions`.

        `instances` are rows, bare or as mappings of input names to values; or columns by input name. None,
        and what a row lacks, is a missing value: NaN for floats, "" for texts, as the published signature
        (of the version, else of the newest) says. For speed and dtypes use `fitserve.Predictor`; this is
        for where only HTTP gets through.

        Raises:
            InvalidInputError: a value is missing where the input's dtype has none to say so.
        """
        if version is not None and label is not None:
            raise InvalidInputError(f"give a version or a label, not both. Received: {version} and {label!r}")
        which = f"/versions/{version}" if version is not None else f"/labels/{_part(label)}" if label else ""
        asked = rows.rows_of(_plain(instances)) if isinstance(instances, Mapping) else _plain(instances)
        if rows.have_gaps(asked):
            asked = rows.filled(asked, self._dtypes(model, version, signature or DEFAULT_SIGNATURE))
        document: dict[str, Any] = {"instances": asked}
        if signature is not None:
            document["signature_name"] = signature
        answer = self._http.post(
            f"/v1/models/{_part(model)}{which}:predict", document, repeatable=True, timeout_s=timeout_s
        )
        if not isinstance(answer, dict) or "predictions" not in answer:
            raise ServerFailedError(f"the answer of model {model} has no predictions")
        predictions: list[Any] = answer["predictions"]
        return predictions

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dtypes(self, model: str, version: int | None, signature: str) -> dict[str, str]:
        """Return the dtypes of the inputs, by name, as the version's record has them."""
        found = next(self.versions(model, limit=1), None) if version is None else self.version(model, version)
        told = ((found.signature if found else None) or {}).get(signature)
        if told is None:
            raise InvalidInputError(f"model {model} tells no signature {signature!r}: leave no value out")
        return {each["name"]: each["dtype"] for each in told["inputs"]}

    def _pages(
        self, path: str, parse: Callable[[Any], RESULT], filters: Mapping[str, Any], limit: int | None
    ) -> Iterator[RESULT]:
        left, after = limit, None
        while left is None or left > 0:
            params = {name: value for name, value in filters.items() if value is not None}
            params["limit"] = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
            if after is not None:
                params["after"] = after
            page = self._http.get(path, params)
            yield from (parse(each) for each in page["data"])
            if left is not None:
                left -= len(page["data"])
            after = page.get("next")
            if not page.get("has_more") or after is None:
                return


def _part(text: str) -> str:
    return quote(text, safe="")


def _seconds(wait_s: float) -> str:
    return f"{min(max(wait_s, 0.0), LONG_POLL_S):g}"


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON, arrays and bytes inside
    """Turn arrays into lists and bytes into TF Serving's {"b64": ...}."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, without importing it
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
