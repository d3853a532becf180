"""Which versions are loaded: what is wanted is compared with what is there, again and again.

A new version is loaded and warmed before an old one goes, and an old one goes only when its last request is
answered, so a swap never leaves a moment without a version.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from serving.config_file import ModelSettings
from serving.errors import Code, LoadError, RequestError
from serving.statuses import State, Statuses, VersionStatus, select

if TYPE_CHECKING:
    from serving.servable import Servable

_log = logging.getLogger(__name__)

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
# TensorFlow Serving lists every version it ever had; a list that grows for ever helps nobody.
MOST_ENDED = 5


@dataclass(eq=False)
class Version:
    """One version of one model, from its discovery to its end."""

    number: int
    path: Path
    state: State = State.START
    error: str = ""
    code: Code | None = None
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

    def latest(self) -> Version | None:
        """Return the newest version that answers."""
        found = None
        for each in self.versions.values():
            if each.state is State.AVAILABLE and (found is None or each.number > found.number):
                found = each
        return found


class Lease:
    """The right to call one version; while it is held, that version isn't unloaded."""

    __slots__ = ("_models", "_version", "model", "number", "servable")

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


class Models:
    """All models of the server; one thread brings them up and down (`reconcile`), any thread leases them."""

    def __init__(
        self,
        load: "Callable[[Path], Servable]",
        *,
        max_retries: int = 5,
        retry_interval_s: float = 60.0,
        load_threads: int = 0,
        unload_threads: int = 0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called after each change of a state, on the thread that made it.

        Several models are loaded at a time on so many threads, and versions unloaded; without, one by one.
        """
        self._load = load
        self._max_retries = max_retries
        self._retry_interval_s = retry_interval_s
        self._on_change = on_change
        self._load_threads = load_threads
        self._unload_threads = unload_threads
        self._models: dict[str, Model] = {}
        self._lock = threading.Lock()
        self.changed = threading.Event()

    def configure(self, settings: Sequence[ModelSettings]) -> set[str]:
        """Take a new full list of models and return the names that are new; `reconcile` makes it true."""
        with self._lock:
            before = {name for name, model in self._models.items() if model.configured}
            for model in self._models.values():
                model.configured = False
            for each in settings:
                model = self._models.setdefault(each.name, Model(each))
                model.settings, model.configured = each, True
                if each.name not in before:
                    # Whoever lists a model again wants it tried again, at once.
                    for version in model.versions.values():
                        version.attempts, version.retry_at = 0, 0.0
        self.changed.set()
        return {each.name for each in settings} - before

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
                version = known.latest() if number is None else known.versions.get(number)
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

    def status(self, model: str, number: int | None = None) -> list[VersionStatus]:
        """Return the state of a model's versions, newest first.

        Raises:
            RequestError: NOT_FOUND, when there is none, or not that one.
        """
        return select(self.all_status(), model, number)

    def labelled(self, model: str, label: str) -> int:
        """Return the version that a label points at.

        Raises:
            RequestError: INVALID_ARGUMENT, when nothing has that label.
        """
        with self._lock:
            return self._labelled(self._models.get(model), label)

    def all_status(self) -> Statuses:
        """Return the states of all versions."""
        with self._lock:
            return {
                name: [_status(model.versions[number]) for number in sorted(model.versions, reverse=True)]
                for name, model in sorted(self._models.items())
            }

    def check_available(self, names: Iterable[str]) -> None:
        """Refuse models whose versions all failed to load, as a reload over gRPC does.

        Raises:
            RequestError: UNKNOWN, in TensorFlow Serving's words, with the newest version of each.
        """
        failed = []
        for name in sorted(names):
            versions = self.all_status().get(name, ())
            if versions and all(each.error for each in versions):
                failed.append((name, versions[0]))
        if failed:
            told = "".join(
                f"{{{{name: {name} version: {each.number}}} due to error: "
                f"{(each.code or Code.UNKNOWN).name}: {each.error}}}, "
                for name, each in failed
            )
            raise RequestError(Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{told}}}")

    def reconcile(self) -> None:
        """Look at the folders and bring versions up and down until what is there is what is wanted.

        Of one model, versions are loaded one after the other, the newest first. Only one thread may call it.
        """
        with self._lock:
            models = list(self._models.items())
        _each(self._load_threads, self._renew, models)

    def close(self) -> None:
        """Unload everything at once; no request may be running."""
        with self._lock:
            models, self._models = self._models, {}
        for model in models.values():
            for version in model.versions.values():
                if version.servable is not None:
                    version.servable.close()

    def _renew(self, name: str, model: Model) -> None:
        wanted = self._discover(name, model)
        for number in sorted(wanted, reverse=True):
            self._bring_up(name, model, number, wanted[number])
        self._settle(name, model, wanted)

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
        self._on_change()
        _log.info("version_loading model=%s version=%d path=%s", name, number, path)
        started = time.monotonic()
        try:
            servable = self._load(path)
        except LoadError as error:
            with self._lock:
                version.state, version.error, version.code = State.END, str(error), error.kind
                version.retry_at = time.monotonic() + self._retry_interval_s
            self._on_change()
            _log.error("version_failed model=%s version=%d error=%s", name, number, error)
            return
        with self._lock:
            version.servable, version.state = servable, State.AVAILABLE
            self._label(name, model)
        self._on_change()
        load_s = time.monotonic() - started
        _log.info("version_available model=%s version=%d load_s=%.2f", name, number, load_s)

    def _due(self, version: Version) -> bool:
        if version.state is not State.END:
            return False
        if not version.error:
            return True
        return version.attempts <= self._max_retries and time.monotonic() >= version.retry_at

    def _settle(self, name: str, model: Model, wanted: Mapping[int, Path]) -> None:
        leaving = False
        with self._lock:
            self._label(name, model)
            available = set(model.available())
            # An old version stays as long as none of the wanted ones can answer in its place.
            if not wanted or available & wanted.keys():
                for number in available - wanted.keys():
                    model.versions[number].state = State.UNLOADING
                    leaving = True
            closing = [
                each
                for each in model.versions.values()
                if each.state is State.UNLOADING and each.in_flight == 0
            ]
        if leaving:
            self._on_change()
        _each(self._unload_threads, self._unload, [(name, version) for version in closing])
        with self._lock:
            self._forget(model, wanted)

    def _unload(self, name: str, version: Version) -> None:
        if version.servable is not None:
            version.servable.close()
        with self._lock:
            version.servable, version.state = None, State.END
        self._on_change()
        _log.info("version_unloaded model=%s version=%d", name, version.number)

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


def _each(threads: int, work: Callable[..., None], items: Sequence[tuple[Any, ...]]) -> None:
    """Do the work for each of the items and return when all is done; its first error is raised."""
    if threads < 2 or len(items) < 2:
        for item in items:
            work(*item)
        return
    with ThreadPoolExecutor(threads, "models") as pool:
        for done in [pool.submit(work, *item) for item in items]:
            done.result()


def _status(version: Version) -> VersionStatus:
    return VersionStatus(version.number, version.state, version.error, version.code)


def _versions(base_path: Path) -> dict[int, Path] | None:
    """Return the complete versions under a base path by number, or None when the path can't be read."""
    try:
        names = [path for path in base_path.iterdir() if path.name.isascii() and path.name.isdigit()]
    except OSError:
        return None
    return {int(path.name): path for path in names if any((path / each).is_file() for each in MODEL_FILES)}
