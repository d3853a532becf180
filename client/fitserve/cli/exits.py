"""The exit codes of the `fitserve` command; scripts may rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from fitserve.errors import (
    ConflictError,
    DeadlineExceededError,
    FitserveError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    SettingsError,
    UnauthorizedError,
    UnavailableError,
)
from fitserve.results import Job, JobStatus


class Exit(IntEnum):
    """What the command came to."""

    OK = 0  # done; a job that was watched succeeded
    JOB_FAILED = 1  # the job, or the reading of a data set, failed: the error says why
    REFUSED = 2  # wrong usage, or a refused spec: every place is shown
    JOB_CANCELLED = 3  # the job that was watched was cancelled
    NOT_FOUND = 4  # no such job, model, version, artifact
    UNREACHABLE = 5  # the server doesn't answer, isn't ready or takes no more: try later
    TIMEOUT = 6  # the time given is over; the job goes on
    UNAUTHORIZED = 7  # no token, or not the right one
    CONFLICT = 8  # not in the present state: a finished job can't be cancelled
    SERVER_FAILED = 9  # the server broke, or what it sent can't be right
    INTERRUPTED = 130  # Ctrl-C; a job that was watched goes on


_BY_ERROR: Mapping[type[FitserveError], Exit] = {
    InvalidInputError: Exit.REFUSED,
    SettingsError: Exit.REFUSED,
    NotFoundError: Exit.NOT_FOUND,
    UnavailableError: Exit.UNREACHABLE,
    OverloadedError: Exit.UNREACHABLE,
    DeadlineExceededError: Exit.TIMEOUT,
    UnauthorizedError: Exit.UNAUTHORIZED,
    ConflictError: Exit.CONFLICT,
}

_BY_STATUS: Mapping[str, Exit] = {
    JobStatus.SUCCEEDED: Exit.OK,
    JobStatus.CANCELLED: Exit.JOB_CANCELLED,
}


def of_error(error: FitserveError) -> Exit:
    """Return the exit code that belongs to an error."""
    return next((code for kind, code in _BY_ERROR.items() if isinstance(error, kind)), Exit.SERVER_FAILED)


def of_job(job: Job) -> Exit:
    """Return the exit code that belongs to a finished job."""
    return _BY_STATUS.get(job.status, Exit.JOB_FAILED)
