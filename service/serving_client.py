"""What TensorFlow Serving says of a version, asked over gRPC by our own client: no TensorFlow here."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from fitserve import FitserveError, NotFoundError, Predictor

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ServingState:
    """A version's state in serving. `checked_at` is in seconds since the epoch."""

    state: str
    checked_at: float
    error: str | None = None


class ServingClient:
    """One channel to ModelService, opened at the first question."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._opening = threading.Lock()
        self._predictor: Predictor | None = None

    def state(self, model: str, number: int) -> ServingState:
        """AVAILABLE, LOADING, ... as TensorFlow Serving says; UNKNOWN if it has not heard of the version."""
        try:
            known = self._open().status(model, version=number, timeout_s=ASK_TIMEOUT_S)
        except NotFoundError:
            return ServingState("UNKNOWN", time.time())
        except FitserveError as error:
            return ServingState("UNREACHABLE", time.time(), str(error))
        for each in known:
            if each.version == number:
                return ServingState(str(each.state), time.time(), each.error or None)
        return ServingState("UNKNOWN", time.time())

    def answers(self) -> bool:
        """Whether the server answers at all, whatever it serves."""
        try:
            self._open().status("fitserve-readiness", timeout_s=0.5)
        except NotFoundError:
            return True
        except FitserveError:
            return False
        return True

    def close(self) -> None:
        """Close the channel."""
        if self._predictor is not None:
            self._predictor.close()

    def _open(self) -> Predictor:
        with self._opening:
            if self._predictor is None:
                self._predictor = Predictor(self._address)
            return self._predictor
