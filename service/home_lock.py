"""One stack a home: the lock that `fitserve up` holds as long as it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class HomeInUseError(RuntimeError):
    """Another stack runs in this home."""


class HomeLock:
    """A lock on a file that names its holder's process id.

    The system gives it back when the holder ends, however it ends. The file stays: whoever removed it could
    take it from under one who has just opened it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether we hold it."""
        return self._descriptor is not None

    def take(self) -> None:
        """Take it at once or not at all.

        Raises:
            HomeInUseError: somebody holds it; the text says which process.
        """
        with contextlib.ExitStack() as undo:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            undo.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 20).decode().strip() or "unknown"
                raise HomeInUseError(
                    f"{self.path.parent.parent} is in use by another fitserve up (pid {holder}); "
                    "stop that one, or choose another home (fitserve up --home)"
                ) from error
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            undo.pop_all()
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; harmless when it isn't held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
