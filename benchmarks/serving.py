"""The model server under load, against an empty gRPC server in Python and three others that serve models.

Every server runs in a process of its own, all of them at once; they are loaded in turn, round by round. While
h2load does that, which looks at HTTP alone, a client asks beside it and compares the answers with the model's
own.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load
from benchmarks.load import Call, Load
from benchmarks.report import Figure, parser, show
from benchmarks.servers import CACHE, NotHere, Server, Servers
from benchmarks.wires import Case
from service.ports import LOOPBACK

ONE, MANY, CONNECTIONS, ROWS = Load(1, 1, 1), Load(1, 1, 32), Load(1, 32, 1), Load(64, 1, 8)
# The most that the echo may have of ours, and the rivals; for the MLP, by h2load.
ECHO = {MANY: 1 / 2.5, CONNECTIONS: 1 / 2, ROWS: 1 / 1.3, ONE: 1 / 0.7}
RIVALS = {"mlserver": 1 / 5, "litserve": 1 / 5, "bentoml": 1 / 10}
LINES_OF = "mlp"
TAIL, SWAP_TAIL, SWAP_TAIL_S = 4.0, 10.0, 0.05
SWAPS, SWAP_S = 20, 2.0
QUIET_S = 5.0
ASKED_EVERY_S = 0.05
CASES = ("echo", "rivals", "tail")


@dataclass
class Bench:
    """What is measured so far: requests a second by (client, model, load, server)."""

    folder: Path
    seconds: float
    clients: int
    rates: dict[tuple[str, str, Load, str], list[float]] = field(default_factory=dict)

    def h2load(self, server: Server, case: Case, how: Load) -> None:
        """Load a server by h2load, its answers compared beside it."""
        with _compared(server, case, how.rows):
            rate = load.closed_loop(
                server.url, self.body(server, case, how.rows), how, self.seconds, grpc=server.wire.grpc
            )
        self._note("h2load", server, case, how, rate)

    def grpcio(self, server: Server, case: Case, how: Load) -> None:
        """Load a server by clients of grpcio."""
        body = self.body(server, case, how.rows)
        address = f"{LOOPBACK}:{server.port}"
        rate = load.by_grpcio(address, server.wire.path, body, how, self.seconds, self.clients)
        self._note("grpcio", server, case, how, rate)

    def body(self, server: Server, case: Case, rows: int) -> Path:
        """Write a request's body as it goes over HTTP."""
        file = self.folder / f"{server.name}-{case.model}-{rows}"
        if not file.is_file():
            body = server.wire.body(case, rows)
            file.write_bytes(b"\0" + len(body).to_bytes(4) + body if server.wire.grpc else body)
        return file

    def figures(self) -> Iterator[Figure]:
        """Requests a second of each, and the others' in terms of ours."""
        for (client, model, how, name), rates in self.rates.items():
            yield Figure.of(f"{model}, {how}, {client}: {name}", rates, "1/s")
            ours = self.rates.get((client, model, how, "envoy"))
            if ours is None or name == "envoy":
                continue
            target = None
            if model == LINES_OF and client == "h2load":
                target = ECHO[how] if name == "echo" else RIVALS.get(name)
            ratios = [other / mine for other, mine in zip(rates, ours, strict=True)]
            yield Figure.of(f"{model}, {how}, {client}: {name} / envoy", ratios, "x", target)

    def _note(self, client: str, server: Server, case: Case, how: Load, rate: float) -> None:
        self.rates.setdefault((client, case.model, how, server.name), []).append(rate)


def main() -> int:
    """Start the servers, load them by turns, and print the figures."""
    chosen = _options().parse_args()
    load.check_h2load()
    only = chosen.only or CASES
    with tempfile.TemporaryDirectory(prefix="fitserve-serving-") as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.serving_models", name], check=True, capture_output=True
        )
        bench = Bench(folder, chosen.seconds, chosen.clients)
        cases = [Case.read(folder, model) for model in chosen.model or ("mlp", "cnn")]
        figures: list[Figure] = []
        for case in cases:
            with Servers(folder, chosen.cache) as servers:
                _by_turns(bench, servers, case, only, chosen.rounds)
        figures += bench.figures()
        if "tail" in only:
            with Servers(folder, chosen.cache) as servers:
                figures += _tail(bench, servers, cases[0], chosen.swaps)
    return show("The model server", figures, as_json=chosen.json)


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__, rounds=7)
    options.add_argument("--seconds", type=float, default=1.5, help="how long each side is loaded in a round")
    options.add_argument("--only", action="append", choices=CASES, help="one part; may be repeated")
    options.add_argument(
        "--model", action="append", choices=("mlp", "cnn"), help="one model; may be repeated"
    )
    options.add_argument("--clients", type=int, default=2, help="processes of grpcio's clients")
    options.add_argument("--swaps", type=int, default=SWAPS, help="version swaps under load")
    options.add_argument("--cache", type=Path, default=CACHE, help="where rivals' environments are kept")
    return options


def _by_turns(bench: Bench, servers: Servers, case: Case, only: Sequence[str], rounds: int) -> None:
    sides = [servers.ours("envoy")]
    servers.wait(sides[0], case)
    if "echo" in only:
        sizes = {len(sides[0].wire.body(case, how.rows)): sides[0].ask(case, how.rows) for how in ECHO}
        sides += [servers.ours("grpcio"), servers.echo(sizes)]
        for side in sides[1:]:
            servers.wait(side, case)
    rivals = list(_rivals(servers, case)) if "rivals" in only else []
    for _ in range(rounds):
        for how in ECHO if "echo" in only else (MANY,):
            for side in sides:
                bench.h2load(side, case, how)
            if case.model == LINES_OF:
                for side in sides:
                    bench.grpcio(side, case, how)
        for rival in rivals:
            bench.h2load(rival, case, MANY)
            if rival.wire.grpc and case.model == LINES_OF:
                bench.grpcio(rival, case, MANY)


def _rivals(servers: Servers, case: Case) -> Iterator[Server]:
    for name in RIVALS:
        try:
            rival = getattr(servers, name)(case)
            servers.wait(rival, case)
        except NotHere as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield rival


def _tail(bench: Bench, servers: Servers, case: Case, swaps: int) -> Iterator[Figure]:
    """The slowest hundredth at half of the peak load, when nothing else happens and while versions change."""
    server = servers.ours("envoy")
    servers.wait(server, case)
    body = bench.body(server, case, 1)
    rate = load.closed_loop(server.url, body, MANY, bench.seconds, grpc=True) / 2
    quiet = load.open_loop(server.url, body, rate, QUIET_S)
    swapped: list[Call] = []
    calls: list[Call] = []
    loading = threading.Thread(
        target=lambda: calls.extend(load.open_loop(server.url, body, rate, (swaps + 1) * SWAP_S))
    )
    with _compared(server, case, 1):
        loading.start()
        times = [_swap(bench.folder / case.model, number) for number in range(2, swaps + 2)]
        loading.join()
    if not calls:
        raise SystemExit("calls failed while versions were swapped")
    swapped = [call for call in calls if any(0 <= call.sent_s - at < SWAP_S for at in times)]
    half, slow = load.percentile(quiet, 50), load.percentile(quiet, 99)
    during = load.percentile(swapped, 99)
    yield Figure.of(f"{case.model}: half of the peak load", [rate], "1/s")
    yield Figure.of(f"{case.model}: half of its calls take", [half * 1e3], "ms")
    yield Figure.of(f"{case.model}: the slowest hundredth takes", [slow * 1e3], "ms")
    yield Figure.of(f"{case.model}: slowest hundredth / half", [slow / half], "x", TAIL)
    yield Figure.of(
        f"{case.model}: slowest hundredth in {swaps} swaps",
        [during * 1e3],
        "ms",
        max(SWAP_TAIL * slow, SWAP_TAIL_S) * 1e3,
    )


def _swap(base_path: Path, number: int) -> float:
    """Publish a copy of the first version as the next one, as the store does; return when."""
    time.sleep(SWAP_S)
    staging = base_path / f".staging-{number}"
    shutil.copytree(base_path / "1", staging)
    at = time.time()
    staging.rename(base_path / str(number))
    return at


@contextlib.contextmanager
def _compared(server: Server, case: Case, rows: int) -> Iterator[None]:
    """Ask beside the load, and compare every answer with the model's own.

    Raises:
        SystemExit: an answer was wrong, or none came.
    """
    ended, wrong = threading.Event(), list[BaseException]()

    def ask() -> None:
        try:
            while not ended.wait(ASKED_EVERY_S):
                server.wire.check(case, rows, server.ask(case, rows))
        except BaseException as error:  # told by the thread that started this one
            wrong.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
    if wrong:
        raise SystemExit(f"{server.name}, asked beside the load: {wrong[0]!r}")


if __name__ == "__main__":
    raise SystemExit(main())
