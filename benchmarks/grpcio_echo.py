"""The least that a gRPC server in Python can be: `python -m benchmarks.grpcio_echo PORT REPLIES.json`.

The synchronous server of grpcio, which runs no model and parses nothing: it answers a request with the reply
that REPLIES.json (size of a request in bytes, as text, to base64 of its reply) has ready for its size.
"""

from __future__ import annotations

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

# Tried: 1, 2, 4, 10 and 32. Two were the fastest with requests in flight, for Python runs one at a time.
THREADS = 2


class Echo(grpc.GenericRpcHandler):
    """Every method by one function; bytes stay bytes."""

    def __init__(self, replies: dict[int, bytes]) -> None:
        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            lambda body, _context: replies[len(body)]
        )

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Take all methods alike."""
        return self._handler


def main() -> None:
    """Serve until the end."""
    port, file = sys.argv[1:]
    replies = {int(size): base64.b64decode(text) for size, text in json.loads(Path(file).read_text()).items()}
    server = grpc.server(
        ThreadPoolExecutor(THREADS), handlers=[Echo(replies)], options=[("grpc.so_reuseport", 0)]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
