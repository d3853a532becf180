"""The HTTP pages beside the models' own: all models, Prometheus's page, and what browsers ask beforehand."""

import json
from collections.abc import Awaitable, Callable, Mapping

from serving import monitoring
from serving.dataplane import DataPlane
from serving.errors import RequestError
from serving.monitoring import Counts
from serving.rest import Reply, refusal

# What TensorFlow Serving answers with --rest_api_enable_cors_support.
CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"Content-Type"),
)


class Pages:
    """Answers what no model is needed for."""

    def __init__(
        self,
        plane: DataPlane,
        counts: Callable[[], Awaitable[Counts]],
        *,
        metrics_path: str | None = None,
        cors: bool = False,
    ) -> None:
        """`counts` returns what all processes have counted, or raises a RequestError."""
        self._plane = plane
        self._counts = counts
        self._metrics_path = metrics_path
        self._cors = cors

    def headers(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer to such a request has beside its type and length."""
        return list(CORS) if self._cors and "origin" in headers else []

    async def answer(self, method: str, path: str) -> tuple[Reply, bytes] | None:
        """Return the page and its content type, or None when it is none of these."""
        if method == "OPTIONS" and self._cors:
            return Reply(200, b""), b"application/json"
        if method == "GET" and path == self._metrics_path:
            try:
                return Reply(
                    200, monitoring.page(await self._counts(), self._states()).encode()
                ), b"text/plain"
            except RequestError as error:
                return refusal(error), b"application/json"
        if method == "GET" and path in {"/v1/models", "/v1/models/"}:
            return Reply(200, json.dumps(self._models(), indent=1).encode()), b"application/json"
        return None

    def _states(self) -> list[tuple[str, int, str]]:
        return [
            (model, each.number, each.state.name)
            for model, statuses in self._plane.all_status().items()
            for each in statuses
        ]

    def _models(self) -> dict[str, object]:
        return {
            "models": [
                {
                    "name": model,
                    "versions": [
                        {"version": str(each.number), "state": each.state.name} for each in statuses
                    ],
                }
                for model, statuses in self._plane.all_status().items()
            ]
        }
