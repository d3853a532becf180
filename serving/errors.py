"""What can go wrong in the store and in the server.

ServingError
├── StoreError            the folder of models and its rules
│   └── ManifestError     a manifest is missing, damaged, or of another format
├── FlagError             the command line makes no sense
├── ModelConfigError      a ModelServerConfig can't be obeyed
├── LoadError             a version can't be brought up
└── RequestError          a request gets an error instead of an answer; `code` is one of `Code`
"""

from enum import StrEnum


class ServingError(Exception):
    """Something in serving failed."""

    code: str = "serving_error"


class StoreError(ServingError):
    """The store refuses: a name, a number, or the state of a folder breaks its rules."""

    code = "store_error"


class ManifestError(StoreError):
    """A manifest can't be read as one."""

    code = "manifest_error"


class FlagError(ServingError):
    """A flag has a value it can't have, or flags contradict each other."""

    code = "flag_error"


class Code(StrEnum):
    """The canonical codes that TensorFlow and gRPC share."""

    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"

    @property
    def number(self) -> int:
        """The code's number in `google.rpc.Code`: 1 for CANCELLED to 15 for DATA_LOSS."""
        return list(Code).index(self) + 1


class RequestError(ServingError):
    """A request can't be answered; `code` says of what kind, the text says which and why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


class ModelConfigError(ServingError):
    """A model configuration contradicts itself or the rules of TensorFlow Serving."""

    code = Code.INVALID_ARGUMENT


class LoadError(ServingError):
    """A version's SavedModel can't be loaded or warmed; `kind` is the code of what kept it from it."""

    code = "load_error"

    def __init__(self, text: str, kind: Code = Code.UNKNOWN) -> None:
        super().__init__(text)
        self.kind: Code = kind
