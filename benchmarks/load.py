"""Load on one server: closed and open loops by h2load, and closed ones by grpcio's clients."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WARM_UP_S = 0.3


@dataclass(frozen=True)
class Load:
    """So many connections, each with so many requests of so many rows in flight."""

    rows: int
    connections: int
    in_flight: int

    def __str__(self) -> str:
        """Tell it as the figures do."""
        rows = f"{self.rows} row{'s' if self.rows > 1 else ''}"
        if self.connections > 1:
            return f"{rows}, {self.connections} connections"
        return f"{rows}, {self.in_flight} in flight"


@dataclass(frozen=True)
class Call:
    """One request of an open loop: when it was sent (seconds since the epoch), and how long it took."""

    sent_s: float
    took_s: float


def check_h2load() -> None:
    """Say how to get h2load where it is missing."""
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not installed; on Debian: apt-get install nghttp2-client")


def closed_loop(url: str, body: Path, load: Load, seconds: float, *, grpc: bool) -> float:
    """Return requests a second by h2load, which looks at HTTP's status alone; HTTP/1.1 where it isn't gRPC.

    Over HTTP/1.1, what is in flight on one connection is spread over as many connections.
    """
    connections = load.connections if grpc else load.connections * load.in_flight
    at_once = ["-c", str(connections), "-m", str(load.in_flight if grpc else 1)]
    said = _h2load(
        [*at_once, f"--warm-up-time={WARM_UP_S * 1000:.0f}ms", *_request(body, grpc=grpc)], seconds, url
    )
    found = re.search(r"([\d.]+) req/s", said)
    if found is None or not re.search(r" 0 failed, 0 errored", said):
        raise SystemExit(f"{url} under load: {said}")
    return float(found[1])


def open_loop(url: str, body: Path, rate: float, seconds: float) -> list[Call]:
    """Send that many gRPC requests a second, whatever the answers take, on one connection.

    Raises:
        SystemExit: a request got no answer, or another HTTP status than 200.
    """
    with tempfile.NamedTemporaryFile(prefix="fitserve-calls-") as log:
        at_once = ["-c", "1", "-m", "1000", f"--rps={rate:.0f}", f"--log-file={log.name}"]
        _h2load([*at_once, *_request(body, grpc=True)], seconds, url)
        lines = [line.split() for line in Path(log.name).read_text(encoding="utf-8").splitlines()]
    wrong = [line for line in lines if line[1] != "200"]
    if wrong:
        raise SystemExit(f"{url}: {len(wrong)} of {len(lines)} calls failed: {wrong[0]}")
    return [Call(int(sent) / 1e6, int(took) / 1e6) for sent, _, took in lines]


def by_grpcio(address: str, path: str, body: Path, load: Load, seconds: float, processes: int) -> float:
    """Return requests a second by processes of `benchmarks.grpcio_load`, which share the load."""
    connections = max(1, load.connections // processes)
    in_flight = load.in_flight if load.connections > 1 else max(1, load.in_flight // processes)
    count = min(processes, load.connections * load.in_flight)
    arguments = [address, path, str(body), str(connections), str(in_flight), str(seconds)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.grpcio_load", *arguments], stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    said = [process.communicate(timeout=seconds + 60)[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{address}: a client of grpcio failed")
    return sum(map(float, said))


def percentile(calls: Sequence[Call], number: int) -> float:
    """A percentile of how long the calls took, in seconds."""
    return statistics.quantiles([call.took_s for call in calls], n=100, method="inclusive")[number - 1]


def _request(body: Path, *, grpc: bool) -> list[str]:
    if grpc:
        return ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    return ["--h1", "-d", str(body), "-H", "content-type: application/json"]


def _h2load(arguments: Sequence[str], seconds: float, url: str) -> str:
    command = ["h2load", "-D", f"{seconds * 1000:.0f}ms", *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
