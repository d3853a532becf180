"""The child that waits in a slot: TensorFlow imported, no device touched, so that a job starts at once."""

from __future__ import annotations

import structlog

from service.child import Child
from service.slots import Slot

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

    def prepare(self) -> bool:
        """Have a child waiting, from now on or still; False if the host can start none now."""
        if not self._warm:
            return True
        if self._child is not None:
            if self._child.alive:
                return True
            log.warning("standby_died", slot=self.slot.name, pid=self._child.pid)
            self._child.discard()
            self._child = None
        try:
            self._child = Child.spawn(self.slot)
        except OSError as error:
            log.warning("standby_not_started", slot=self.slot.name, error=str(error))
            return False
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

    def close(self) -> None:
        """End the waiting child."""
        if self._child is not None:
            self._child.discard()
            self._child = None
