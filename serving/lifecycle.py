"""Which versions are loaded: what is wanted is compared with what is there, again and again.

A new version is loaded and warmed before an old one goes, and an old one goes only when its last request is
answered, so a swap never leaves a moment without a version.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from serving.config_file import ModelSettings
from serving.errors import Code, LoadError, RequestError

if TYPE_CHECKING:
    from serving.servable import Servable

_log = logging.getLogger(__name__)

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
# TensorFlow Serving lists every version it ever had; a list that grows for ever helps nobody.
MOST_ENDED = 5


class State(IntEnum):
    """Where a version stands; the numbers are those of GetModelStatus."""

    START = 10  # known, not begun
    LOADING = 20  # being loaded and warmed
    AVAILABLE = 30  # answers requests
    UNLOADING = 40  # takes no new request, finishes those it has
    END = 50  # gone, or failed to load: then `error` says why


@dataclass(eq=False)
class Version:
    """One version of one model, from its discovery to its end."""

    number: int
    path: Path
    state: State = State.START
    error: str = ""
    servable: "Servable | None" = None
    in_flight: int = 0
    attempts: int = 0
    retry_at: float = 0.0


@dataclass(eq=False)
class Model:
    """A configured model; `labels` are those in effect, `settings.labels` those wished for."""

    settings: ModelSettings
    versions: dict[int, Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    configured: bool = True

    def available(self) -> list[int]:
        """Return the numbers of the versions that answer, ascending."""
        return sorted(number for number, each in self.versions.items() if each.state is State.AVAILABLE)


class Lease:
    """The right to call one version; while it is held, that version isn't unloaded."""

    def __init__(self, models: "Models", model: str, version: Version, servable: "Servable") -> None:
        self.model = model
        self.number = version.number
        self.servable = servable
        self._models = models
        self._version = version

    def again(self) -> "Lease":
        """Return a further lease of the same version; this one must be held meanwhile."""
        self._models.extend(self._version)
        return Lease(self._models, self.model, self._version, self.servable)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._models.release(self._version)


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus tells of one version."""

    number: int
    state: State
    error: str


class Models:
    """All models of the server; one thread brings them up and down (`reconcile`), any thread leases them."""

    def __init__(
        self, load: "Callable[[Path], Servable]", *, max_retries: int = 5, retry_interval_s: float = 60.0
    ) -> None:
        self._load = load
        self._max_retries = max_retries
        self._retry_interval_s = retry_interval_s
        self._models: dict[str, Model] = {}
        self._lock = threading.Lock()
        self.changed = threading.Event()

    def configure(self, settings: Sequence[ModelSettings]) -> None:
        """Take a new full list of models; the next `reconcile` makes it true."""
        with self._lock:
            for model in self._models.values():
                model.configured = False
            for each in settings:
                model = self._models.setdefault(each.name, Model(each))
                model.settings, model.configured = each, True
        self.changed.set()

    def lease(self, model: str, number: int | None = None, label: str | None = None) -> Lease:
        """Return the right to call a version: the latest one, that number, or what the label points at.

        Raises:
            RequestError: NOT_FOUND or INVALID_ARGUMENT, in TensorFlow Serving's words.
        """
        with self._lock:
            known = self._models.get(model)
            if label is not None:
                number = self._labelled(known, label)
            if known is not None:
                wanted = number if number is not None else max(known.available(), default=-1)
                version = known.versions.get(wanted)
                if version is not None and version.state is State.AVAILABLE and version.servable is not None:
                    version.in_flight += 1
                    return Lease(self, model, version, version.servable)
        request = f"Latest({model})" if number is None else f"Specific({model}, {number})"
        raise RequestError(Code.NOT_FOUND, f"Servable not found for request: {request}")

    def extend(self, version: Version) -> None:
        """Give another lease of a version that is leased already; it may be unloading meanwhile."""
        with self._lock:
            version.in_flight += 1

    def release(self, version: Version) -> None:
        """Take a lease back."""
        with self._lock:
            version.in_flight -= 1
            if version.in_flight == 0 and version.state is State.UNLOADING:
                self.changed.set()

    def status(self, model: str, number: int | None = None, label: str | None = None) -> list[VersionStatus]:
        """Return the state of a model's versions, newest first.

        Raises:
            RequestError: NOT_FOUND, when there is none, or not that one.
        """
        with self._lock:
            known = self._models.get(model)
            if label is not None:
                number = self._labelled(known, label)
            versions = sorted(known.versions.values(), key=lambda each: -each.number) if known else []
            found = [each for each in versions if number is None or each.number == number]
            statuses = [VersionStatus(each.number, each.state, each.error) for each in found]
        if not statuses:
            which = "any versions" if number is None else f"version {number}"
            raise RequestError(Code.NOT_FOUND, f"Could not find {which} of model {model}")
        return statuses

    def all_status(self) -> dict[str, list[VersionStatus]]:
        """Return the states of all versions by model, names ascending, newest first."""
        with self._lock:
            return {
                name: [
                    VersionStatus(number, model.versions[number].state, model.versions[number].error)
                    for number in sorted(model.versions, reverse=True)
                ]
                for name, model in sorted(self._models.items())
            }

    def check_labels(self, settings: Sequence[ModelSettings]) -> None:
        """Refuse labels for versions that don't answer yet, as a reload over gRPC does.

        Raises:
            RequestError: FAILED_PRECONDITION, for the first such label.
        """
        with self._lock:
            for each in settings:
                known = self._models.get(each.name)
                available = known.available() if known else []
                for number in each.labels.values():
                    if number not in available:
                        raise RequestError(
                            Code.FAILED_PRECONDITION,
                            f"Request to assign label to version {number} of model {each.name}, "
                            "which is not currently available for inference",
                        )

    def reconcile(self) -> None:
        """Look at the folders and bring versions up and down until what is there is what is wanted.

        Loads run here, one after the other, newest version first; only one thread may call it.
        """
        with self._lock:
            models = dict(self._models)
        for name, model in models.items():
            wanted = self._discover(name, model)
            for number in sorted(wanted, reverse=True):
                self._bring_up(name, model, number, wanted[number])
            self._settle(name, model, wanted)

    def close(self) -> None:
        """Unload everything at once; no request may be running."""
        with self._lock:
            models, self._models = self._models, {}
        for model in models.values():
            for version in model.versions.values():
                if version.servable is not None:
                    version.servable.close()

    def _discover(self, name: str, model: Model) -> dict[int, Path]:
        if not model.configured:
            return {}
        found = _versions(model.settings.base_path)
        if found is None:
            _log.warning("base_path_missing model=%s path=%s", name, model.settings.base_path)
            return {
                number: each.path for number, each in model.versions.items() if each.state is not State.END
            }
        selected = model.settings.policy.select(found)
        return {number: path for number, path in found.items() if number in selected}

    def _bring_up(self, name: str, model: Model, number: int, path: Path) -> None:
        version = model.versions.get(number)
        if version is not None and not self._due(version):
            return
        attempts = version.attempts if version is not None and version.error else 0
        version = Version(number, path, State.LOADING, attempts=attempts + 1)
        with self._lock:
            model.versions[number] = version
        _log.info("version_loading model=%s version=%d path=%s", name, number, path)
        started = time.monotonic()
        try:
            servable = self._load(path)
        except LoadError as error:
            with self._lock:
                version.state, version.error = State.END, str(error)
                version.retry_at = time.monotonic() + self._retry_interval_s
            _log.error("version_failed model=%s version=%d error=%s", name, number, error)
            return
        with self._lock:
            version.servable, version.state = servable, State.AVAILABLE
            self._label(name, model)
        load_s = time.monotonic() - started
        _log.info("version_available model=%s version=%d load_s=%.2f", name, number, load_s)

    def _due(self, version: Version) -> bool:
        if version.state is not State.END:
            return False
        if not version.error:
            return True
        return version.attempts <= self._max_retries and time.monotonic() >= version.retry_at

    def _settle(self, name: str, model: Model, wanted: Mapping[int, Path]) -> None:
        with self._lock:
            self._label(name, model)
            available = set(model.available())
            # An old version stays as long as none of the wanted ones can answer in its place.
            if not wanted or available & wanted.keys():
                for number in available - wanted.keys():
                    model.versions[number].state = State.UNLOADING
            closing = [
                each
                for each in model.versions.values()
                if each.state is State.UNLOADING and each.in_flight == 0
            ]
        for version in closing:
            if version.servable is not None:
                version.servable.close()
            with self._lock:
                version.servable, version.state = None, State.END
            _log.info("version_unloaded model=%s version=%d", name, version.number)
        with self._lock:
            self._forget(model, wanted)

    def _forget(self, model: Model, wanted: Mapping[int, Path]) -> None:
        ended = sorted(
            number
            for number, each in model.versions.items()
            if each.state is State.END and number not in wanted
        )
        for number in ended[:-MOST_ENDED]:
            del model.versions[number]

    def _label(self, name: str, model: Model) -> None:
        available = model.available()
        wished = model.settings.labels if model.configured else {}
        for label in [label for label in model.labels if label not in wished]:
            del model.labels[label]
        for label, number in wished.items():
            if number in available and model.labels.get(label) != number:
                model.labels[label] = number
                _log.info("label_assigned model=%s label=%s version=%d", name, label, number)

    def _labelled(self, model: Model | None, label: str) -> int:
        if model is None or label not in model.labels:
            raise RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        return model.labels[label]


def _versions(base_path: Path) -> dict[int, Path] | None:
    """Return the complete versions under a base path by number, or None when the path can't be read."""
    try:
        names = [path for path in base_path.iterdir() if path.name.isascii() and path.name.isdigit()]
    except OSError:
        return None
    return {int(path.name): path for path in names if any((path / each).is_file() for each in MODEL_FILES)}
