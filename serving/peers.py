"""The other processes on this one's ports, as one of them sees them.

Each talks to the process that started them all (`serving.hub`), by lines of JSON over an inherited socket:

    this process -> {"tell": telling}                       after every change of a state
                    {"superseded": true}                    the file says something newer than the last reload
                    {"ask": id, "method": m, "argument": a}
                    {"answer": id, "result": r} or {"answer": id, "error": {"code": c, "text": t}}
    the hub      -> {"config": text or null}                first of all: the last reload, for who comes late
                    {"others": [telling, ...], "complete": bool}
                    {"asked": id, "method": m, "argument": a}
                    {"answers": id, "results": [...]} or {"answers": id, "error": {...}}

A telling is {"ready": bool, "statuses": {...}}. `complete` is true once all processes have been ready.
"""

import asyncio
import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from serving import statuses
from serving.errors import Code, RequestError
from serving.statuses import Statuses

_log = logging.getLogger(__name__)

# The number of the inherited socket; without it a process is alone.
VARIABLE = "FITSERVE_MODEL_SERVER_PEERS"

RELOAD, METRICS = "reload", "metrics"

# What a process answers to each method: JSON in, JSON out, or a RequestError. Any: it is JSON.
Answers = Mapping[str, Callable[[Any], Any]]
# Whether this process is ready, and the states of its versions.
Telling = Callable[[], tuple[bool, Statuses]]


class Peers(Protocol):
    """All processes on the ports, this one included."""

    config: str | None
    """The model configuration last reloaded, where this process takes the place of one that died."""

    @property
    def ready(self) -> bool:
        """Whether all others are ready, and as many as were asked for have been."""

    def listen(self) -> None:
        """Begin to hear the others and to answer them."""

    def merged(self, own: Statuses) -> Statuses:
        """Return the states of all processes together, `own` being those of this one."""

    def tell(self) -> None:
        """Let the others know this process's states."""

    def supersede(self) -> None:
        """Let who comes late read the configuration file, which is newer than the last reload."""

    async def ask(self, method: str, argument: Any = None) -> list[Any]:  # noqa: ANN401 - JSON
        """Return what every process answers, this one included.

        Raises:
            RequestError: the first error among the answers.
        """


class Alone:
    """The one process on its ports."""

    config: str | None = None
    ready = True

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers = answers or {}

    def listen(self) -> None:
        """Do nothing: nobody else is there."""

    def merged(self, own: Statuses) -> Statuses:
        """Return the states as they are."""
        return own

    def tell(self) -> None:
        """Do nothing: nobody else is there."""

    def supersede(self) -> None:
        """Do nothing: nobody comes late."""

    async def ask(self, method: str, argument: Any = None) -> list[Any]:  # noqa: ANN401 - JSON
        """Return this process's own answer, made on a thread.

        Raises:
            RequestError: as its answer says.
        """
        return [await asyncio.to_thread(self._answers[method], argument)]


class Connected:
    """One of several processes; its line to the hub is read on a thread."""

    def __init__(self, end: socket.socket, telling: Telling, answers: Answers) -> None:
        self._end = end
        self._lines = end.makefile("rb")
        self._telling = telling
        self._answers = answers
        # One thread a method: what is asked of all processes happens in the same order in each.
        self._threads = {method: ThreadPoolExecutor(1, f"peers-{method}") for method in answers}
        self._sending = threading.Lock()
        self._asked: dict[int, Future[list[Any]]] = {}
        self._ids = itertools.count()
        self._others: list[tuple[bool, Statuses]] = []
        self._complete = False
        self.config: str | None = json.loads(self._lines.readline() or b"{}").get("config")

    def listen(self) -> None:
        """Begin to hear the others and to answer them."""
        threading.Thread(target=self._listen, name="peers", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether all others are ready, and as many as were asked for have been."""
        return self._complete and all(ready for ready, _ in self._others)

    def merged(self, own: Statuses) -> Statuses:
        """Return the states of all processes together, `own` being those of this one."""
        return statuses.merged([own, *(others for _, others in self._others)])

    def tell(self) -> None:
        """Let the others know this process's states."""
        # Taken under the lock, so that of two changes at a time the later state is told last.
        with self._sending:
            ready, own = self._telling()
            self._send({"tell": {"ready": ready, "statuses": statuses.to_json(own)}})

    def supersede(self) -> None:
        """Let who comes late read the configuration file, which is newer than the last reload."""
        with self._sending:
            self._send({"superseded": True})

    async def ask(self, method: str, argument: Any = None) -> list[Any]:  # noqa: ANN401 - JSON
        """Return what every process answers, this one included.

        Raises:
            RequestError: the first error among the answers.
        """
        number, answers = next(self._ids), Future[list[Any]]()
        self._asked[number] = answers
        try:
            with self._sending:
                self._send({"ask": number, "method": method, "argument": argument})
            return await asyncio.wrap_future(answers)
        finally:
            self._asked.pop(number, None)

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._end.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            # The hub is gone, and with its end this process is about to be asked to leave.
            _log.warning("peers_lost error=%s", error)

    def _listen(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            match message:
                case {"others": others, "complete": complete}:
                    self._others = [(each["ready"], statuses.from_json(each["statuses"])) for each in others]
                    self._complete = complete
                case {"asked": number, "method": method, "argument": argument}:
                    self._threads[method].submit(self._answer, number, method, argument)
                case {"answers": number}:
                    self._settle(number, message)

    def _answer(self, number: int, method: str, argument: Any) -> None:  # noqa: ANN401 - JSON
        try:
            answer = {"result": self._answers[method](argument)}
        except RequestError as error:
            answer = {"error": {"code": error.code, "text": str(error)}}
        except Exception as error:
            _log.exception("answer_failed method=%s", method)
            answer = {"error": {"code": Code.INTERNAL, "text": f"{type(error).__name__} in {method}"}}
        with self._sending:
            self._send({"answer": number, **answer})

    def _settle(self, number: int, message: Mapping[str, Any]) -> None:
        answers = self._asked.get(number)
        if answers is None or not answers.set_running_or_notify_cancel():
            return
        if error := message.get("error"):
            answers.set_exception(RequestError(Code(error["code"]), error["text"]))
        else:
            answers.set_result(message["results"])


def inherited() -> tuple[int, ...]:
    """Return the descriptors that a process started on behalf of this one has to inherit."""
    number = os.environ.get(VARIABLE)
    return (int(number),) if number else ()


def connect(telling: Telling, answers: Answers) -> Peers:
    """Return the processes on this one's ports, by what this one inherited."""
    for number in inherited():
        return Connected(socket.socket(fileno=number), telling, answers)
    return Alone(answers)
