"""All gRPC methods of one server: the models' own, the profiler's and, where asked for, grpc.health.v1."""

from collections.abc import AsyncIterator

from serving.health import CHECK, WATCH, Health
from serving.monitoring import GRPC, Metrics
from serving.profiler import SERVICE, Profiler
from serving.rpc import Rpc


class Methods:
    """Bytes in and bytes out by path; what is called is counted."""

    def __init__(self, rpc: Rpc, metrics: Metrics, health: Health | None, profiler: Profiler | None) -> None:
        self._rpc = rpc
        self._metrics = metrics
        self._health = health
        self._profiler = profiler

    async def call(self, path: str, body: bytes) -> bytes:
        """Return the serialized reply to a serialized request.

        Raises:
            RequestError: in every other case.
        """
        if path == CHECK and self._health is not None:
            return self._health.check(body)
        if path.startswith(SERVICE) and self._profiler is not None:
            return await self._profiler.call(path, body)
        with self._metrics.observe(path.rpartition("/")[2], GRPC):
            return await self._rpc.call(path, body)

    def streams(self, path: str) -> bool:
        """Return whether the method answers with a stream."""
        return path == WATCH and self._health is not None

    def stream(self, path: str, body: bytes) -> AsyncIterator[bytes]:
        """Return the serialized replies of a method that `streams`."""
        if self._health is None:
            raise ValueError(f"no stream. Received: {path}")
        return self._health.watch(body)
