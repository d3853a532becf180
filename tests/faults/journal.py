"""The witness's journal as the harness reads it: every line once, as it comes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Line:
    """One thing that a process was seen doing; `t` is seconds on the host's boot-time clock."""

    t: float
    pid: int
    who: str
    what: str
    job: str | None
    attempt: int | None
    phase: str | None
    facts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(text: str | bytes) -> Line:
        document = json.loads(text)
        named = {name: document.pop(name) for name in ("t", "pid", "who", "what", "job", "attempt", "phase")}
        return Line(**named, facts=document)

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        where = f"{self.job} attempt {self.attempt} {self.phase or '-'}" if self.job else "-"
        return f"{self.t:.3f} {self.who} {self.pid} {where}: {self.what} {facts}".rstrip()


class Journal:
    """Reads a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.lines: list[Line] = []

    def read_on(self) -> list[Line]:
        """The lines that came since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        self._offset += len(fresh)
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        read = [Line.parse(each) for each in whole]
        self.lines += read
        return read


@dataclass
class Sighting:
    """An attempt as its lines tell of it."""

    job: str
    attempt: int
    child: int | None = None
    worker: int | None = None
    converter: int | None = None
    last_seen: float = 0.0
    over_at: float | None = None
    heard: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    turns: list[tuple[float, str, str]] = field(default_factory=list)
    """When it came into which phase, and by which word of the journal."""

    @property
    def phase(self) -> str:
        return self.turns[-1][1] if self.turns else "starting"

    def heard_before(self, t: float) -> float:
        """When it was last heard of, no later than `t`; 0 once it was over."""
        if self.over_at is not None and self.over_at <= t:
            return 0.0
        return max((at for at in self.heard if at <= t), default=0.0)

    def phase_at(self, t: float) -> tuple[str, str]:
        """The phase, and the last word before `t`."""
        before = [(phase, what) for at, phase, what in self.turns if at <= t]
        return before[-1] if before else ("starting", "begin")


class Board:
    """Who is doing what right now."""

    def __init__(self) -> None:
        self.sightings: dict[tuple[str, int], Sighting] = {}
        self.unwitnessed: list[Line] = []
        self.standbys: set[int] = set()
        """Children that wait for an order, or died waiting."""
        self._by_child: dict[int, Sighting] = {}

    def see(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._see(line)

    def live(self, now: float, *, silent_s: float = 0.15) -> list[Sighting]:
        """The attempts that were heard of just now, or are in a pause of the publication."""
        return [
            each
            for each in self.sightings.values()
            if each.over_at is None
            and now - each.last_seen < (0.4 if each.phase == "publishing" else silent_s)
        ]

    def _see(self, line: Line) -> None:
        if line.what == "unwitnessed":
            self.unwitnessed.append(line)
        if line.who == "child" and line.what == "process":
            self.standbys.add(line.pid)
        if line.who == "converter" and line.what == "process":
            parent = self._by_child.get(line.facts["ppid"])
            if parent is not None:
                parent.converter = line.pid
        if line.job is None or line.attempt is None:
            return
        seen = self.sightings.setdefault((line.job, line.attempt), Sighting(line.job, line.attempt))
        seen.last_seen = max(seen.last_seen, line.t)
        seen.heard.append(line.t)
        if line.who == "child":
            seen.child = line.pid
            self.standbys.discard(line.pid)
            self._by_child[line.pid] = seen
            seen.worker = line.facts.get("ppid", seen.worker)
        else:
            seen.worker = line.pid
        if line.phase and (line.what not in ("alive", "step") or line.phase != seen.phase):
            seen.turns.append((line.t, line.phase, line.what))
        if line.what == "leave" and line.facts.get("left") == "publishing":
            seen.over_at = line.t
