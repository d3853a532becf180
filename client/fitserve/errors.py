"""Everything that can go wrong, by what the caller can do about it.

FitserveError
├── SettingsError           a token file or endpoints.json that can't be read
├── InvalidInputError       what was sent doesn't fit: the spec, the signature, the arguments (a ValueError)
├── UnauthorizedError       no token, a wrong one, or one without this right
├── NotFoundError           no such job, model, version, artifact (a LookupError)
├── ConflictError           not a legal move in the present state
├── OverloadedError         the server has too much to do: try later
├── UnavailableError        nothing answers there, or not yet
├── DeadlineExceededError   the time given is over (a TimeoutError)
├── LoadFailedError         serving tried to load a version and could not
├── ChecksumMismatchError   downloaded bytes are not the ones published
├── ServerFailedError       the server broke, or said what this client can't read
└── ProblemError            any refusal told over HTTP (RFC 9457); each is also one of the classes above,
                            so `except NotFoundError` and `except ProblemError` both catch a 404
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class FitserveError(Exception):
    """The root of all errors of this package; `code` is stable, the message is for people."""

    code: str = "error"


class SettingsError(FitserveError):
    """Settings could be found but not read."""

    code = "bad_settings"


class InvalidInputError(FitserveError, ValueError):
    """What was given does not fit what is wanted; nothing was changed by it."""

    code = "invalid_input"


class UnauthorizedError(FitserveError):
    """The token is missing, wrong, or lacks the right."""

    code = "unauthorized"


class NotFoundError(FitserveError, LookupError):
    """There is no such job, data set, model, version or artifact."""

    code = "not_found"


class ConflictError(FitserveError):
    """The request is no legal move in the present state."""

    code = "conflict"


class OverloadedError(FitserveError):
    """The server takes no more for now."""

    code = "overloaded"


class UnavailableError(FitserveError):
    """Nothing answers at the address, or what answers is not ready."""

    code = "unavailable"


class DeadlineExceededError(FitserveError, TimeoutError):
    """The time given for the call is over; the server may still have acted."""

    code = "deadline_exceeded"


class LoadFailedError(FitserveError):
    """Serving could not load the version, and says why."""

    code = "load_failed"


class ChecksumMismatchError(FitserveError):
    """The bytes that arrived don't have the published digest; the target file was not touched."""

    code = "checksum_mismatch"


class ServerFailedError(FitserveError):
    """The server broke, or answered in a form this client doesn't know."""

    code = "server_failed"


@dataclass(frozen=True)
class FieldError:
    """One refused place of a document: a JSON pointer (RFC 6901) and what is wrong there."""

    pointer: str
    detail: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.detail}"


class ProblemError(FitserveError):
    """A refusal that the server told as application/problem+json.

    `status` is the HTTP status, `code` the server's own word, `errors` every refused field at once,
    `request_id` what to look for in the server's logs, `raw` the whole document.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.raw = problem
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or self.title or f"HTTP {status}")
        self.code = str(problem.get("code") or type(self).code)
        self.request_id: str | None = problem.get("request_id")
        self.errors: Sequence[FieldError] = tuple(
            FieldError(str(each.get("pointer", "")), str(each.get("detail", "")))
            for each in problem.get("errors") or ()
        )
        super().__init__(
            "\n".join([f"{self.detail} [{status} {self.code}]", *(f"  {e}" for e in self.errors)])
        )


class InvalidInputProblem(ProblemError, InvalidInputError):
    """400, 413, 415, 422."""


class UnauthorizedProblem(ProblemError, UnauthorizedError):
    """401, 403."""


class NotFoundProblem(ProblemError, NotFoundError):
    """404, 410."""


class ConflictProblem(ProblemError, ConflictError):
    """409, 412."""


class OverloadedProblem(ProblemError, OverloadedError):
    """429."""


class UnavailableProblem(ProblemError, UnavailableError):
    """502, 503."""


class DeadlineProblem(ProblemError, DeadlineExceededError):
    """408, 504."""


class ServerFailedProblem(ProblemError, ServerFailedError):
    """Any other status that is no success."""


PROBLEM_BY_STATUS: Mapping[int, type[ProblemError]] = {
    400: InvalidInputProblem,
    413: InvalidInputProblem,
    415: InvalidInputProblem,
    422: InvalidInputProblem,
    401: UnauthorizedProblem,
    403: UnauthorizedProblem,
    404: NotFoundProblem,
    410: NotFoundProblem,
    408: DeadlineProblem,
    409: ConflictProblem,
    412: ConflictProblem,
    429: OverloadedProblem,
    502: UnavailableProblem,
    503: UnavailableProblem,
    504: DeadlineProblem,
}


def problem(status: int, document: Mapping[str, Any]) -> ProblemError:
    """Return the error that belongs to an HTTP status, ready to raise."""
    return PROBLEM_BY_STATUS.get(status, ServerFailedProblem)(status, document)
