"""Run the API: `python -m service.api --host 127.0.0.1 --port 8000`."""

from __future__ import annotations

import argparse
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app

GRACE_S = 3
"""What a request in flight has to end; streams and long polls end at once when the server is told to stop."""


class _Server(uvicorn.Server):
    """Tells the open streams to end as soon as a signal says stop, so they don't hold the process up."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.closing.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m service.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args()
    app = create_app()
    config = uvicorn.Config(
        app,
        host=chosen.host,
        port=chosen.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    _Server(config, app).run()


if __name__ == "__main__":
    main()
