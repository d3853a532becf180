"""Group commit: what several threads ask for at the same time is written in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DatabaseUnavailableError

Asked = TypeVar("Asked")
Given = TypeVar("Given")


@dataclass(eq=False)
class _Ticket(Generic[Asked, Given]):
    """What one thread waits for."""

    asked: Asked
    given: Given | None = None
    error: Exception | None = None
    done: bool = False


class Together(Generic[Asked, Given]):
    """Calls `write` for all that wait, by whichever of them comes first; each gets its own answer.

    A commit is a write to the disk, and threads that queue for it one by one pay for one each.
    """

    def __init__(self, write: Callable[[Sequence[Asked]], Sequence[Given]]) -> None:
        """Keep `write`, which keeps all it is given or nothing, and answers in the same order."""
        self._write = write
        self._waiting: list[_Ticket[Asked, Given]] = []
        self._arriving = threading.Lock()
        self._writing = threading.Lock()

    def __call__(self, asked: Asked) -> Given:
        """Have it written; returns after the commit.

        Raises whatever `write` raises for it.
        """
        ticket: _Ticket[Asked, Given] = _Ticket(asked)
        with self._arriving:
            self._waiting.append(ticket)
        with self._writing:
            if not ticket.done:
                with self._arriving:
                    batch, self._waiting = self._waiting, []
                self._settle(batch)
        if ticket.error is not None:
            raise ticket.error
        return ticket.given  # type: ignore[return-value]  # None may be what was given

    def _settle(self, batch: Sequence[_Ticket[Asked, Given]]) -> None:
        try:
            for ticket, given in zip(batch, self._write([each.asked for each in batch]), strict=True):
                ticket.given = given
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailableError):
                # One of them can't be written, and the others must not fail with it.
                for ticket in batch:
                    self._settle([ticket])
                return
            for ticket in batch:
                ticket.error = error
        for ticket in batch:
            ticket.done = True
