"""The training process's hold on the child that converts and proves."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from exporter.errors import ConverterKilledError, ExportFailedError, ExportStoppedError, making_failed

_PACKAGES = Path(__file__).resolve().parents[1]
_POLL_S = 0.2
_GOODBYE_S = 5.0
TRIES = 2
"""How often one request is tried while somebody kills the child."""


class Converter:
    """One child for all exports of a model, started when first needed and again after it died.

    It stays in the caller's process group, so that who kills the group kills it too, and its stderr is the
    caller's. It sees no accelerator: the training process holds their memory.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 600,
        memory_bytes: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Set what one request may take, and who may break it off.

        `timeout_s` includes the child's start. `memory_bytes` is resident memory, of the child and those that
        it starts.
        """
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._should_stop = should_stop or (lambda: False)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._process.pid if self._process else None

    # Any: JSON documents; `exporter.child` says what is in them.
    def ask(self, request: dict[str, Any], *, artifact: str) -> dict[str, Any]:
        """Send a request and wait for its reply; a child that was killed is replaced and asked again.

        Raises:
            ExportFailedError: the child reported an error, crashed, or took more time or memory than it may.
            ConverterKilledError: it was killed time and again.
            NoRoomError: the child reported that the disk is full.
            ExportStoppedError: `should_stop` said so; the child is killed.
        """
        doing = f"{request['do']} {request['format']}"
        for _ in range(TRIES):
            line = self._ask_once(request, artifact, doing)
            if line:
                break
            code = self._bury()
            if code != -signal.SIGKILL:
                raise ExportFailedError(artifact, f"{doing}: the converter process {_ending(code)}")
        else:
            raise ConverterKilledError(artifact, f"{doing}: the converter process was killed {TRIES} times")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise making_failed(artifact, f"{doing}: {reply['error']}")
        result: dict[str, Any] = reply["ok"]
        return result

    def close(self) -> None:
        """End the child: by the end of its stdin, or by force if that doesn't do."""
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            # It died with a request unread; there is nothing to flush to.
            process.kill()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _ask_once(self, request: dict[str, Any], artifact: str, doing: str) -> bytes:
        """One line of reply; empty when the child ended instead."""
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            return self._reply(process, artifact, doing)
        except BrokenPipeError:
            return b""

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "exporter.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
            )
        return self._process

    def _reply(self, process: subprocess.Popen[bytes], artifact: str, doing: str) -> bytes:
        """Read one line; empty when the child closed its end instead."""
        assert process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if self._should_stop():
                    self._kill()
                    raise ExportStoppedError(f"stopped during {doing} for export {artifact!r}")
                left = deadline - time.monotonic()
                beyond = self._beyond(left, process.pid)
                if beyond:
                    self._kill()
                    raise ExportFailedError(artifact, f"{doing}: {beyond}")
                if selector.select(min(left, _POLL_S)):
                    # Past any buffer of Python's, which select doesn't see into.
                    chunk = os.read(process.stdout.fileno(), 65536)
                    if not chunk:
                        return b""
                    received += chunk
        return received

    def _beyond(self, left_s: float, pid: int) -> str:
        """Say which limit the child has passed, if any."""
        if left_s <= 0:
            return f"no answer from the converter within {self._timeout_s:g} s"
        if self._memory_bytes is not None and (held := _held_bytes(pid)) > self._memory_bytes:
            return f"the converter held {held:,} bytes of memory, of {self._memory_bytes:,} left to it"
        return ""

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.close()

    def _bury(self) -> int:
        """Collect a child that died; its exit code."""
        process = self._process
        assert process is not None
        self.close()
        return process.returncode


def _held_bytes(pid: int) -> int:
    """Resident memory of a process and of all that it started."""
    held = 0
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
    return held


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}; its log says more"
    return f"died of {signal.Signals(-code).name}; its log says more"


def _environment() -> dict[str, str]:
    # The child runs this very package, however the caller came to import it.
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
