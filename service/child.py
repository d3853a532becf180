"""The supervisor's side of a child: spawn it in a process group of its own, talk to it, end it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from service.protocol import Order, say
from service.slots import Slot

FOR_PYTHON = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHON",
    "VIRTUAL_ENV",
)
FOR_DEVICES = ("CUDA_", "NVIDIA_", "XLA_", "TF_", "TPU_", "LIBTPU_", "KERAS_", "OMP_", "MKL_", "OPENBLAS_")
"""What a child inherits of the worker's environment, by the beginnings of names."""


class Child:
    """One attempt's process, its process group, and the two pipes to it."""

    def __init__(self, process: subprocess.Popen[bytes], events_fd: int) -> None:
        self._process = process
        self._events_fd = events_fd

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self._process.pid

    @staticmethod
    def spawn(order: Order, slot: Slot, folder: Path) -> Child:
        """Start the process with its order; its log goes to `folder`."""
        read_fd, write_fd = os.pipe()
        try:
            with (folder / "log").open("ab") as log_file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "service.attempt", str(write_fd)],
                    stdin=subprocess.PIPE,
                    stdout=log_file,
                    stderr=log_file,
                    pass_fds=[write_fd],
                    start_new_session=True,
                    env=_environment(slot),
                )
        finally:
            os.close(write_fd)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a child that died at once shows in its events' end
            process.stdin.write(order.line())
            process.stdin.flush()
        # From here on only lines that a pipe takes whole (PIPE_BUF, 4096 bytes on Linux).
        os.set_blocking(process.stdin.fileno(), False)
        return Child(process, read_fd)

    def read_into(self, inbox: queue.Queue[bytes | None]) -> None:
        """Put every line of the child into the inbox, and b"" when it has closed its end."""

        def read() -> None:
            with os.fdopen(self._events_fd, "rb") as events:
                for line in events:
                    if line.endswith(b"\n"):  # a line that a kill cut short is in no file either
                        inbox.put(line)
            inbox.put(b"")

        threading.Thread(target=read, name=f"events-{self._process.pid}", daemon=True).start()

    def say(self, **message: Any) -> None:
        """Send one message."""
        self._write(say(**message))

    def kill(self) -> int:
        """End the whole process group, converters and provers included; the child's exit code.

        Only once: after the wait the kernel may give the number to somebody else.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            return code
        return self._process.returncode

    def _write(self, line: bytes) -> None:
        """Write one line whole or not at all, and never wait.

        A child that is gone shows in its events' end, and one that is frozen by its lease; a beat that finds
        the pipe full is for nobody.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._process.stdin.fileno(), line)


def _environment(slot: Slot) -> dict[str, str]:
    """Of the worker's environment only what Python, TensorFlow and devices need: no password or token."""
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(FOR_PYTHON + FOR_DEVICES)
    }
    return inherited | {"TF_CPP_MIN_LOG_LEVEL": "1"} | dict(slot.environment)
