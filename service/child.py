"""The supervisor's side of a child: spawn it in a process group of its own, talk to it, end it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

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
    """One process that does one attempt, its process group, and the two pipes to it."""

    def __init__(self, process: subprocess.Popen[bytes], events_fd: int, early: IO[bytes]) -> None:
        self._process = process
        self._events_fd = events_fd
        self._early = early
        self._is_read = False

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs. Its end is seen without reaping it: so long its group keeps its number."""
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def last_words(self) -> str:
        """The last line that it said before it had its order, as far as it had none."""
        lines = os.pread(self._early.fileno(), os.fstat(self._early.fileno()).st_size, 0).split(b"\n")
        return next((line.decode(errors="replace") for line in reversed(lines) if line.strip()), "")

    @staticmethod
    def spawn(slot: Slot) -> Child:
        """Start a process for a slot, which imports what its work needs and waits for an order."""
        # Nobody knows yet whose log it will write to; it moves there by itself when it has its order.
        early = tempfile.TemporaryFile()  # noqa: SIM115 - it is kept as long as the child
        read_fd, write_fd = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.attempt", str(write_fd), slot.kind.value],
                stdin=subprocess.PIPE,
                stdout=early,
                stderr=early,
                pass_fds=[write_fd],
                start_new_session=True,
                env=_environment(slot),
            )
        except OSError:
            os.close(read_fd)
            early.close()
            raise
        finally:
            os.close(write_fd)
        assert process.stdin is not None
        # Only lines that a pipe takes whole (PIPE_BUF, 4096 bytes on Linux) are ever written.
        os.set_blocking(process.stdin.fileno(), False)
        return Child(process, read_fd, early)

    def begin(self, order: Order) -> None:
        """Give the child its order; it is all that it will ever do."""
        self.say(order=str(order.write()))

    def read_into(self, inbox: queue.Queue[bytes | None]) -> None:
        """Put every line of the child into the inbox, and b"" when it has closed its end."""

        def read() -> None:
            with os.fdopen(self._events_fd, "rb") as events:
                for line in events:
                    if line.endswith(b"\n"):  # a line that a kill cut short is in no file either
                        inbox.put(line)
            inbox.put(b"")

        threading.Thread(target=read, name=f"events-{self._process.pid}", daemon=True).start()
        self._is_read = True

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
            self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.returncode

    def discard(self) -> None:
        """End a child that never had an order."""
        self.kill()
        self._close()

    def part(self, log_file: Path) -> int:
        """End it, and keep what it said before it had its order if it never wrote its log; its exit code.

        Raises:
            OSError: there is no room for its words; all else is done.
        """
        code = self.kill()
        try:
            if not log_file.exists():
                self._early.seek(0)
                log_file.write_bytes(self._early.read())
        finally:
            self._close()
        return code

    def _close(self) -> None:
        self._early.close()
        if not self._is_read:  # else whoever reads closes it
            os.close(self._events_fd)

    def _write(self, line: bytes) -> None:
        """Write one line whole or not at all, and never wait.

        A child that is gone shows in its events' end, and one that is frozen by its lease; a beat that finds
        the pipe full is for nobody.
        """
        assert self._process.stdin is not None
        if self._process.stdin.closed:  # it was killed
            return
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._process.stdin.fileno(), line)


def _environment(slot: Slot) -> dict[str, str]:
    """Of the worker's environment only what Python, TensorFlow and devices need: no password or token."""
    inherited = {
        name: value for name, value in os.environ.items() if name.startswith(FOR_PYTHON + FOR_DEVICES)
    }
    return inherited | {"TF_CPP_MIN_LOG_LEVEL": "1"} | dict(slot.environment)
