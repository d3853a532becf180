"""Several processes on the same ports: this one starts them, replaces those that die, and ends them.

The kernel shares connections out (SO_REUSEPORT); a process listens only once it has loaded every model. This
one imports no TensorFlow and answers no request; it is where the others meet (`serving.hub`).
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

from serving import peers
from serving.errors import ServingError
from serving.flags import VARIABLE, Flags, to_json
from serving.front import DRAIN_S
from serving.hub import Hub

_log = logging.getLogger(__name__)

# A process that dies is started again after a pause, which doubles until one lived for a while.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S, _LIVED_S = 0.1, 30.0, 60.0
# What a front may take for itself after the requests in flight.
_LEAVING_S = 1.6


def run(flags: Flags) -> int:
    """Serve by `flags.processes` processes until SIGTERM or SIGINT; return the exit status.

    Raises:
        ServingError: another server is starting on one of the ports.
    """
    with claimed(flags):
        return asyncio.run(_Processes(flags).serve())


@contextlib.contextmanager
def claimed(flags: Flags) -> Iterator[None]:
    """Hold the ports against another server that shares its own: both would listen, and mix their answers.

    Raises:
        ServingError: another server holds one of them.
    """
    with contextlib.ExitStack() as held:
        for port in filter(None, (flags.port, flags.rest_api_port)):
            # A name that goes with its last holder, whatever ends it (unix(7), abstract sockets).
            claim = held.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claim.bind(f"\0fitserve-model-server:{flags.host}:{port}")
            except OSError as error:
                raise ServingError(f"can't listen on {flags.host}:{port}: {error.strerror}") from error
        yield


class _Processes:
    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._hub = Hub(flags.processes)
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()

    async def serve(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(index)) for index in range(self._flags.processes)]
        asked = asyncio.create_task(self._stopping.wait())
        # A keeper ends by itself only when its process can't even start.
        await asyncio.wait([asked, *keepers], return_when=asyncio.FIRST_COMPLETED)
        failed = not self._stopping.is_set()
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        _, late = await asyncio.wait(keepers, timeout=DRAIN_S + _LEAVING_S)
        for process in self._running:
            _log.warning("process_killed pid=%d", process.pid)
            process.kill()
        if late:
            await asyncio.wait(late)
        return 1 if failed else 0

    async def _keep(self, index: int) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._live(index)
            if self._stopping.is_set():
                return
            _log.error("process_ended index=%d status=%d", index, status)
            if not self._hub.complete:
                return
            pause_s = _SHORTEST_PAUSE_S if time.monotonic() - started > _LIVED_S else pause_s
            _log.info("process_replaced index=%d pause_s=%.1f", index, pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _live(self, index: int) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {VARIABLE: to_json(self._flags), peers.VARIABLE: str(theirs.fileno())}
            # A group of its own: Ctrl+C goes to the whole foreground group, and this one passes it on.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "serving.process",
                stdin=asyncio.subprocess.PIPE,
                env={**os.environ, **environment},
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        self._running.add(process)
        if self._stopping.is_set():
            process.terminate()
        _log.info("process_started index=%d pid=%d", index, process.pid)
        attending = asyncio.create_task(self._hub.attend(ours))
        try:
            return await process.wait()
        finally:
            self._running.discard(process)
            attending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await attending
