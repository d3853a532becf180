"""What the service refuses or can't do. HTTP is not known here: `service.problems` says what each becomes.

ServiceError
├── NotFoundError             there is no such job, data set, model, version or artifact
│   └── ContentGoneError      what was fetched was deleted before it was recorded
├── SpecRefusedError          the body breaks the contract; carries every error with its JSON pointer
├── IllegalMoveError          the job's status does not allow that; carries the status
├── NameTakenError            a data set's name belongs to other content
├── DatasetInUseError         a waiting or running job uses the data set
├── IdempotencyConflictError  the Idempotency-Key came with another body before
├── UploadTooLargeError       more bytes than the service takes
├── UploadUnreadableError     the request carries no file
├── UnauthorizedError         no bearer token, or a wrong one
├── ServingUnavailableError   TensorFlow Serving does not answer
└── DatabaseUnavailableError  the database does not answer; nothing was changed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a body: where, and what."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """Something the service refuses or can't do."""


class NotFoundError(ServiceError):
    """There is no such thing."""


class SpecRefusedError(ServiceError):
    """The body breaks the contract."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("1 error in the body" if len(faults) == 1 else f"{len(faults)} errors in the body")
        self.faults = tuple(faults)


class IllegalMoveError(ServiceError):
    """The job's status does not allow that."""


class NameTakenError(ServiceError):
    """The name belongs to a data set with other content."""


class DatasetInUseError(ServiceError):
    """A waiting or running job uses the data set."""


class ContentGoneError(NotFoundError):
    """What was fetched was deleted, as another data set's, before it was recorded."""


class IdempotencyConflictError(ServiceError):
    """The Idempotency-Key came with another body before."""


class UploadTooLargeError(ServiceError):
    """More bytes than the service takes."""


class UploadUnreadableError(ServiceError):
    """The request carries no file."""


class UnauthorizedError(ServiceError):
    """No bearer token, or a wrong one."""


class ServingUnavailableError(ServiceError):
    """TensorFlow Serving does not answer."""


class DatabaseUnavailableError(ServiceError):
    """The database did not answer; nothing was changed."""
