"""What a server counts, and the page on which Prometheus reads it.

Names, labels and buckets are those of TensorFlow Serving (servables/tensorflow/util.cc,
util/prometheus_exporter.cc), where a slash of a metric's path becomes a colon.
"""

import bisect
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from serving import text_protos
from serving.errors import Code, RequestError

DEFAULT_PATH = "/monitoring/prometheus/metrics"
GRPC, REST = "GRPC", "REST"

_COUNTED = {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"}
# Microseconds: 33 buckets from 10, each 1.8 times as wide (to about 20 minutes).
_BOUNDS = [10 * 1.8**power for power in range(33)]
_PREFIX = ":tensorflow:serving:"


class Observation:
    """One request, counted when its block ends, by its model and how it ended.

    `model` is known once it was asked for, `runtime_s` once it ran.
    """

    __slots__ = ("_api", "_entrypoint", "_metrics", "_started", "_token", "model", "runtime_s")

    def __init__(self, metrics: "Metrics", api: str, entrypoint: str) -> None:
        self._metrics = metrics
        self._api = api
        self._entrypoint = entrypoint
        self.model = ""
        self.runtime_s: float | None = None

    def __enter__(self) -> "Observation":
        self._started = time.perf_counter()
        self._token: Token[Observation | None] = OBSERVED.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        OBSERVED.reset(self._token)
        if self._api in _COUNTED and self.model:
            took_s = time.perf_counter() - self._started
            self._metrics.count(self, self._api, self._entrypoint, _status(error), took_s)


OBSERVED: ContextVar[Observation | None] = ContextVar("OBSERVED", default=None)


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(_BOUNDS, value)] += 1
        self.total += value

    def merge(self, other: "_Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


_Histograms = defaultdict[tuple[str, ...], _Histogram]


@dataclass(slots=True)
class Counts:
    """What was counted, by labels.

    Those of latencies are (model, API, entrypoint, status), of runtimes (model, API, runtime).
    """

    latencies: _Histograms = field(default_factory=lambda: defaultdict(_Histogram))
    runtimes: _Histograms = field(default_factory=lambda: defaultdict(_Histogram))

    def add(self, other: "Counts") -> None:
        """Add what another process counted."""
        for mine, theirs in ((self.latencies, other.latencies), (self.runtimes, other.runtimes)):
            for labels, histogram in theirs.items():
                mine[labels].merge(histogram)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, to tell it to another process."""
        return {
            "latencies": [[labels, each.counts, each.total] for labels, each in self.latencies.items()],
            "runtimes": [[labels, each.counts, each.total] for labels, each in self.runtimes.items()],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Counts":
        """Read what `to_json` wrote."""
        read = cls()
        read.latencies.update({tuple(labels): _Histogram(*rest) for labels, *rest in document["latencies"]})
        read.runtimes.update({tuple(labels): _Histogram(*rest) for labels, *rest in document["runtimes"]})
        return read


class Metrics:
    """The counters of one process; requests are counted on any thread."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._lock = threading.Lock()

    def counts(self) -> Counts:
        """Return a copy of what was counted so far."""
        copy = Counts()
        with self._lock:
            copy.add(self._counts)
        return copy

    def observe(self, api: str, entrypoint: str) -> Observation:
        """Return the block in which a request is answered."""
        return Observation(self, api, entrypoint)

    def count(self, observed: Observation, api: str, entrypoint: str, status: str, took_s: float) -> None:
        """Count a request that has ended."""
        # Who asks for names at random may not fill the memory: what isn't served has no name here.
        model = observed.model if status != Code.NOT_FOUND.name else ""
        with self._lock:
            self._counts.latencies[model, api, entrypoint, status].add(took_s * 1e6)
            if observed.runtime_s is not None:
                self._counts.runtimes[model, api, "TF1"].add(observed.runtime_s * 1e6)


def page(counts: Counts, states: Iterable[tuple[str, int, str]]) -> str:
    """Return the page in Prometheus's text format; `states` are (model, version, state) triples."""
    requests: Counter[tuple[str, str]] = Counter()
    for (model, _, _, status), histogram in counts.latencies.items():
        requests[model, status] += sum(histogram.counts)
    lines = [f"# TYPE {_PREFIX}request_count counter"]
    for (model, status), count in sorted(requests.items()):
        labels = _labels(model_name=model, status=status)
        lines.append(f"{_PREFIX}request_count{{{labels}}} {count}")
    lines.append(f"# TYPE {_PREFIX}request_latency histogram")
    for (model, api, entrypoint, status), histogram in sorted(counts.latencies.items()):
        labels = _labels(model_name=model, API=api, entrypoint=entrypoint, status=status)
        lines += _histogram("request_latency", labels, histogram)
    lines.append(f"# TYPE {_PREFIX}runtime_latency histogram")
    for (model, api, runtime), histogram in sorted(counts.runtimes.items()):
        labels = _labels(model_name=model, API=api, runtime=runtime)
        lines += _histogram("runtime_latency", labels, histogram)
    lines.append("# TYPE :fitserve:serving:model_version_state gauge")
    for model, version, state in states:
        labels = _labels(model_name=model, version=str(version), state=state)
        lines.append(f":fitserve:serving:model_version_state{{{labels}}} 1")
    return "\n".join(lines) + "\n"


def path_of(file: Path) -> str | None:
    """Return where the page is, by a MonitoringConfig in protobuf text format, or None when it is off.

    Raises:
        FlagError: the file doesn't parse.
    """
    config = text_protos.read(file, "MonitoringConfig").prometheus_config
    return (config.path or DEFAULT_PATH) if config.enable else None


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "OK"
        case RequestError():
            return error.code.name
        case TimeoutError():
            return Code.DEADLINE_EXCEEDED.name
        case Exception():
            return Code.INTERNAL.name
        case _:
            return Code.CANCELLED.name


def _histogram(name: str, labels: str, histogram: _Histogram) -> list[str]:
    bounds: list[str] = [f"{bound:g}" for bound in _BOUNDS] + ["+Inf"]
    upto = itertools.accumulate(histogram.counts)
    lines = [
        f'{_PREFIX}{name}_bucket{{{labels},le="{bound}"}} {count}'
        for bound, count in zip(bounds, upto, strict=True)
    ]
    lines.append(f"{_PREFIX}{name}_sum{{{labels}}} {histogram.total:g}")
    lines.append(f"{_PREFIX}{name}_count{{{labels}}} {sum(histogram.counts)}")
    return lines


def _labels(**values: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
