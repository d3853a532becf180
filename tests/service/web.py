"""A web server on loopback whose paths behave in different ways."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TABLE = b"a,b,y\n1,2,3\n4,5,6\n7,8,9\n10,11,12\n"


class Web(ThreadingHTTPServer):
    """What it was asked, and what it has; `/data.csv` and whatever a test puts there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {"/data.csv": TABLE}
        self.asked: list[tuple[str, str | None]] = []
        self.failing = 0  # so many answers are 503 first
        self.elsewhere = ""

    @property
    def place(self) -> str:
        """As FITSERVE_DATA_HOSTS lists it."""
        return f"127.0.0.1:{self.server_port}"

    def uri(self, path: str = "/data.csv") -> str:
        return f"http://{self.place}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))
        path = self.path.partition("?")[0]
        if self.server.failing:
            self.server.failing -= 1
            self._answer(503, b"")
        elif path == "/redirect":
            self._answer(302, b"", Location=self.server.elsewhere)
        elif path == "/cut":
            self._answer(200, TABLE, {"Content-Length": "1000"})
        elif path == "/told-large":
            self._answer(200, b"", {"Content-Length": str(10**12)})
        elif path in ("/endless", "/slow"):
            self._drip(0.05 if path == "/slow" else 0.0)
        elif path == "/slow-head":
            self._drip_head()
        elif path == "/packed":
            self._answer(200, TABLE, {"Content-Encoding": "gzip"})
        elif path == "/locked":
            login = "Basic " + base64.b64encode(b"me:se cret").decode()
            self._answer(200 if self.headers["Authorization"] == login else 401, TABLE)
        elif path in self.server.files:
            self._answer(200, self.server.files[path])
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, **more: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {}), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, pause_s: float) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"1" if pause_s else b"1" * 65536)
                time.sleep(pause_s)
        except OSError:
            pass

    def _drip_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        until = time.monotonic() + 5  # an answer after all, so that whoever waits is not kept for ever
        try:
            while time.monotonic() < until:
                self.wfile.write(b"1")
                time.sleep(0.05)
            self.wfile.write(b"\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
