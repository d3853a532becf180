"""The contract of a kind of work: what its child is told, what the child does, and how its success is kept.

One file in `service/kinds/` a kind, named like the kind. The first half runs in the worker and the last too;
the middle runs in a spawned child that knows no database and nothing of the API.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from service.jobs import EventKind, Job, Kind
from service.protocol import Order

if TYPE_CHECKING:  # the child reads this contract too, and knows no database
    from service.records import Claim, Records
    from service.settings import Settings
    from serving.store import Store


@dataclass(frozen=True)
class Site:
    """What a worker works with."""

    settings: Settings
    records: Records
    store: Store


class Interrupted(Exception):
    """The child was told to stop, has checkpointed, and leaves."""


class Cancelled(Exception):
    """The child was told to cancel, and leaves."""


class Channel(Protocol):
    """The child's way to its supervisor."""

    def tell(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Send one event; it is kept on disk too until the job ends."""

    @property
    def stop_asked(self) -> bool:
        """Whether the worker wants to leave: checkpoint, then raise Interrupted."""

    @property
    def cancel_asked(self) -> bool:
        """Whether the job's owner wants it to end: raise Cancelled."""


class WorkKind(Protocol):
    """One kind of work."""

    def prepare(self, job: Job, site: Site) -> Mapping[str, Any]:
        """What the child needs to know beyond the job itself; JSON. Runs in the worker."""

    def warm_up(self) -> None:
        """Import what `run` needs, and touch no device. Runs in a child that has no order yet."""

    def run(self, order: Order, channel: Channel) -> Mapping[str, Any]:
        """Do the work and return what `complete` needs; JSON. Runs in the child."""

    def complete(self, claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:
        """Keep the success; False when the claim is void by now. Re-enterable. Runs in the worker."""

    def resume(self, claim: Claim, site: Site) -> bool:
        """Complete what an earlier attempt had all but finished; False when there is work to do."""

    def mark(self, work_folder: Path) -> str | None:
        """How far the job got: another mark after an attempt than before it means that it got further."""

    def give_up(self, claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:
        """Clear away what the ended job (failed with `error`, or cancelled) has left. Runs in the worker."""


def work_of(kind: Kind) -> WorkKind:
    """The implementation of a kind."""
    return cast(WorkKind, importlib.import_module(f"service.kinds.{kind.value}"))
