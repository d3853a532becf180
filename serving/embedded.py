"""The ASGI application that runs inside Envoy's process, which `serving.fronts.envoy` starts and watches.

It loads the models during the lifespan's start, before which Envoy opens no port.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from serving import flags, logs
from serving.fronts.envoy import DRAIN

if TYPE_CHECKING:
    from serving.asgi import Message, Receive, Send
    from serving.assembly import Assembly

_log = logging.getLogger(__name__)


class Embedded:
    """Builds the server when the lifespan starts, and passes requests on to it."""

    def __init__(self) -> None:
        self._assembly: Assembly | None = None

    async def __call__(self, scope: "Message", receive: "Receive", send: "Send") -> None:
        """Answer one request, or live through one lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._assembly is not None:
            await self._assembly.application(scope, receive, send)

    async def _live(self, receive: "Receive", send: "Send") -> None:
        await receive()
        logs.configure()
        try:
            # On a thread, because the loop has to live while TensorFlow is imported and models load.
            self._assembly = await asyncio.to_thread(self._start)
        except Exception as error:
            _log.exception("start_failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        threading.Thread(target=self._obey, name="stdin", daemon=True).start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._assembly.stop(timeout_s=0.5)
        # Envoy has left its loop. Ending the interpreter inside it trips over libraries of TensorFlow
        # (optree aborts in its destructor), and a load may still be running on its thread.
        logging.shutdown()
        os._exit(0)

    def _start(self) -> "Assembly":
        from serving.assembly import Assembly

        assembly = Assembly(flags.from_json(os.environ[flags.VARIABLE]))
        assembly.start()
        return assembly

    def _obey(self) -> None:
        for line in iter(sys.stdin.buffer.readline, b""):
            if line == DRAIN and self._assembly is not None:
                self._assembly.plane.drain()
        os.kill(os.getpid(), signal.SIGTERM)


app = Embedded()
