"""grpc.health.v1, by hand: one string in, one number out (health.proto of gRPC)."""

import asyncio
from collections.abc import AsyncIterator
from enum import IntEnum

from serving.dataplane import DataPlane
from serving.errors import Code, RequestError

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"

# By the names that TensorFlow Serving registers; the empty one is the server as a whole.
SERVICES = ("", "ModelService", "PredictionService")
_POLL_S = 0.1


class Status(IntEnum):
    """HealthCheckResponse.ServingStatus."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class Health:
    """Says whether the server takes requests, once or for as long as somebody listens."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def check(self, body: bytes) -> bytes:
        """Return a HealthCheckResponse to a HealthCheckRequest.

        Raises:
            RequestError: NOT_FOUND for a service that isn't here.
        """
        status = self._status(_service(body))
        if status is Status.SERVICE_UNKNOWN:
            raise RequestError(Code.NOT_FOUND, "service name unknown")
        return _response(status)

    async def watch(self, body: bytes) -> AsyncIterator[bytes]:
        """Yield the status now and after each change; ends when the server is about to leave."""
        service, told = _service(body), None
        while True:
            status = self._status(service)
            if status is not told:
                told = status
                yield _response(status)
            if self._plane.draining:
                return
            await asyncio.sleep(_POLL_S)

    def _status(self, service: str) -> Status:
        if service not in SERVICES:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self._plane.ready else Status.NOT_SERVING


def _service(body: bytes) -> str:
    # Field 1, length-delimited; names of less than 128 bytes have their length in one byte.
    if not body:
        return ""
    if len(body) < 2 or body[0] != 0x0A or body[1] > 0x7F or len(body) != 2 + body[1]:
        raise RequestError(Code.INVALID_ARGUMENT, "HealthCheckRequest doesn't parse")
    return body[2:].decode("utf-8", "replace")


def _response(status: Status) -> bytes:
    return bytes((0x08, status))
