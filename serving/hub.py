"""The middle of several processes on the same ports: it passes on what each tells, asks all what one asks.

It understands two things: a reload, which it keeps for who comes late, and counts, of which it keeps those
of the dead, since a counter may not go down. `serving.peers` is the other end, and says what the lines are.
"""

import asyncio
import itertools
import json
import socket
from dataclasses import dataclass, field
from typing import Any

from serving.monitoring import Counts
from serving.peers import METRICS, RELOAD

# A line holds the states of all versions or the counts of all models.
_LONGEST_LINE_BYTES = 1 << 28


@dataclass(eq=False)
class _Line:
    """The line to one process; `telling` is its last, `counts` those it had when they were last asked for."""

    writer: asyncio.StreamWriter
    telling: dict[str, Any] | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def ready(self) -> bool:
        return self.telling is not None and bool(self.telling["ready"])

    def send(self, message: dict[str, Any]) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


@dataclass(eq=False)
class _Question:
    """What was asked of all; answered once nobody is waited for."""

    asker: _Line
    number: int
    method: str
    waiting: set[_Line]
    results: list[Any] = field(default_factory=list)
    error: dict[str, str] | None = None


class Hub:
    """Attends the lines of all processes on one event loop."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lines: list[_Line] = []
        self._questions: dict[int, _Question] = {}
        self._ids = itertools.count()
        self._config: str | None = None
        self._gone = Counts()
        self.complete = False
        """Whether all processes have been ready at the same time."""

    async def attend(self, end: socket.socket) -> None:
        """Serve the line to one process until it ends."""
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_LONGEST_LINE_BYTES)
        line = _Line(writer)
        line.send({"config": self._config})
        self._lines.append(line)
        self._pass_on()
        try:
            while message := await reader.readline():
                self._take(line, json.loads(message))
        except (ConnectionError, json.JSONDecodeError):
            pass  # it died, perhaps in the midst of a line
        finally:
            self._drop(line)

    def _take(self, line: _Line, message: dict[str, Any]) -> None:
        match message:
            case {"tell": telling}:
                line.telling = telling
                self.complete = self.complete or sum(each.ready for each in self._lines) >= self._processes
                self._pass_on()
            case {"superseded": True}:
                self._config = None
            case {"ask": number, "method": method, "argument": argument}:
                self._ask(line, number, method, argument)
            case {"answer": number}:
                self._hear(line, number, message)

    def _drop(self, line: _Line) -> None:
        line.writer.close()
        self._lines.remove(line)
        self._gone.add(line.counts)
        for number, question in list(self._questions.items()):
            question.waiting.discard(line)
            self._settle(number)
        self._pass_on()

    def _pass_on(self) -> None:
        # Who isn't ready listens on no port: what it has or lacks concerns nobody yet.
        for line in self._lines:
            others = [each.telling for each in self._lines if each is not line and each.ready]
            line.send({"others": others, "complete": self.complete})

    def _ask(self, asker: _Line, number: int, method: str, argument: Any) -> None:  # noqa: ANN401 - JSON
        if method == RELOAD:
            self._config = argument
        asked = next(self._ids)
        waiting = {line for line in self._lines if line.ready}
        self._questions[asked] = _Question(asker, number, method, waiting)
        for line in self._lines:
            line.send({"asked": asked, "method": method, "argument": argument})
        self._settle(asked)

    def _hear(self, line: _Line, number: int, message: dict[str, Any]) -> None:
        question = self._questions.get(number)
        if question is None or line not in question.waiting:
            return
        question.waiting.discard(line)
        question.error = question.error or message.get("error")
        if question.method == METRICS and "result" in message:
            line.counts = Counts.from_json(message["result"])
        else:
            question.results.append(message.get("result"))
        self._settle(number)

    def _settle(self, number: int) -> None:
        question = self._questions[number]
        if question.waiting:
            return
        del self._questions[number]
        answer: dict[str, Any] = {"answers": question.number, "results": question.results}
        if question.error is not None:
            answer["error"] = question.error
        elif question.method == METRICS:
            counts = [self._gone, *(line.counts for line in self._lines)]
            answer["results"] = [each.to_json() for each in counts]
        question.asker.send(answer)
