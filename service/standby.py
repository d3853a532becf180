"""The child that waits in a slot: TensorFlow imported, no device touched, so that a job starts at once."""

from __future__ import annotations

import structlog

from service.child import Child
from service.protocol import boot_clock
from service.slots import Slot

REST_FIRST_S = 1.0
REST_LONGEST_S = 300.0
"""How long a slot whose processes die, or don't start, starts none: doubled each time, after a first try."""

log = structlog.get_logger(__name__)


class Standby:
    """At most one waiting child of a slot. Used by the slot's own thread alone.

    A child can wait because what it will work on comes with its order; what it may see of the host's devices
    was set when it was started.
    """

    def __init__(self, slot: Slot, *, warm: bool = True) -> None:
        self.slot = slot
        self._warm = warm
        self._child: Child | None = None
        self._misses = 0
        self._started_at = 0.0
        self._rest_until = 0.0

    def prepare(self) -> bool:
        """Have a child waiting, from now on or still; False if the host can start none now."""
        if self._child is not None and not self._child.alive:
            log.warning("standby_died", slot=self.slot.name, pid=self._child.pid, said=self._child.last_words)
            self._child.discard()
            self._child = None
            if boot_clock() > self._started_at + REST_LONGEST_S:
                self._misses = 0
            self.rest()
        if boot_clock() < self._rest_until:
            return False
        if not self._warm or self._child is not None:
            return True
        try:
            self._child = Child.spawn(self.slot)
        except OSError as error:
            log.warning("standby_not_started", slot=self.slot.name, error=str(error))
            self.rest()
            return False
        self._started_at = boot_clock()
        return True

    def take(self) -> Child:
        """The waiting child, or else a new one; from now on it is the caller's to end.

        Raises:
            OSError: the host can start no process.
        """
        child, self._child = self._child, None
        if child is not None and child.alive:
            return child
        if child is not None:
            child.discard()
        return Child.spawn(self.slot)

    def rest(self) -> None:
        """A child was lost before it did anything: if that goes on, start none for a while."""
        if self._misses:
            self._rest_until = boot_clock() + min(REST_LONGEST_S, REST_FIRST_S * 2.0 ** (self._misses - 1))
        self._misses += 1

    def began(self) -> None:
        """A child began its work: this host can start them."""
        self._misses = 0

    def close(self) -> None:
        """End the waiting child."""
        if self._child is not None:
            self._child.discard()
            self._child = None
