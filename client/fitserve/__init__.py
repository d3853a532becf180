"""The client of fitserve and TensorFlow Serving: jobs over HTTP, predictions over gRPC."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fitserve.client import Client as Client
    from fitserve.errors import ChecksumMismatchError as ChecksumMismatchError
    from fitserve.errors import ConflictError as ConflictError
    from fitserve.errors import DeadlineExceededError as DeadlineExceededError
    from fitserve.errors import FitserveError as FitserveError
    from fitserve.errors import InvalidInputError as InvalidInputError
    from fitserve.errors import LoadFailedError as LoadFailedError
    from fitserve.errors import NotFoundError as NotFoundError
    from fitserve.errors import OverloadedError as OverloadedError
    from fitserve.errors import ProblemError as ProblemError
    from fitserve.errors import ServerFailedError as ServerFailedError
    from fitserve.errors import SettingsError as SettingsError
    from fitserve.errors import UnauthorizedError as UnauthorizedError
    from fitserve.errors import UnavailableError as UnavailableError
    from fitserve.prediction import Prediction as Prediction
    from fitserve.predictor import Predictor as Predictor
    from fitserve.predictor import VersionState as VersionState
    from fitserve.predictor import VersionStatus as VersionStatus
    from fitserve.results import Artifact as Artifact
    from fitserve.results import Dataset as Dataset
    from fitserve.results import Event as Event
    from fitserve.results import Job as Job
    from fitserve.results import JobStatus as JobStatus
    from fitserve.results import Model as Model
    from fitserve.results import ModelVersion as ModelVersion
    from fitserve.signatures import ModelMetadata as ModelMetadata
    from fitserve.signatures import Signature as Signature
    from fitserve.signatures import TensorSpec as TensorSpec

# Where each public name lives: grpc, numpy and httpx take 0.1 to 0.3 s each, so they load when first used.
_HOMES = {
    "Client": "client",
    "ChecksumMismatchError": "errors",
    "ConflictError": "errors",
    "DeadlineExceededError": "errors",
    "FitserveError": "errors",
    "InvalidInputError": "errors",
    "LoadFailedError": "errors",
    "NotFoundError": "errors",
    "OverloadedError": "errors",
    "ProblemError": "errors",
    "ServerFailedError": "errors",
    "SettingsError": "errors",
    "UnauthorizedError": "errors",
    "UnavailableError": "errors",
    "Prediction": "prediction",
    "Predictor": "predictor",
    "VersionState": "predictor",
    "VersionStatus": "predictor",
    "Artifact": "results",
    "Dataset": "results",
    "Event": "results",
    "Job": "results",
    "JobStatus": "results",
    "Model": "results",
    "ModelVersion": "results",
    "ModelMetadata": "signatures",
    "Signature": "signatures",
    "TensorSpec": "signatures",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
