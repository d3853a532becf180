"""What TensorFlow Serving says of a version, asked over gRPC by our own client: no TensorFlow here."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
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
        return self._states(model, [number], version=number)[number]

    def states(self, model: str, numbers: Sequence[int]) -> dict[int, ServingState]:
        """The same of each of these versions, with one question."""
        return self._states(model, numbers, version=None)

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

    def _states(self, model: str, numbers: Sequence[int], *, version: int | None) -> dict[int, ServingState]:
        error: str | None = None
        try:
            told = self._open().status(model, version=version, timeout_s=ASK_TIMEOUT_S)
        except NotFoundError:
            told = []
        except FitserveError as failure:
            told, error = [], str(failure)
        now = time.time()
        untold = ServingState("UNKNOWN" if error is None else "UNREACHABLE", now, error)
        known = {each.version: ServingState(str(each.state), now, each.error or None) for each in told}
        return {number: known.get(number, untold) for number in numbers}

    def _open(self) -> Predictor:
        with self._opening:
            if self._predictor is None:
                self._predictor = Predictor(self._address)
            return self._predictor
