"""The second half of a kind of work whose outcome is its row's result, and of which nothing else remains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.jobs import Status

if TYPE_CHECKING:  # the child reads this too, and knows no database
    from service.kind import Site
    from service.records import Claim


def complete(claim: Claim, outcome: Mapping[str, Any], site: Site) -> bool:
    """Keep the outcome as the row's result."""
    return site.records.claims.finish(claim, Status.SUCCEEDED, result=outcome)


def resume(claim: Claim, site: Site) -> bool:  # noqa: ARG001 - the contract of kinds
    """Nothing of it outlives its attempt."""
    return False


def mark(work_folder: Path) -> str | None:  # noqa: ARG001 - the contract of kinds
    """It keeps nothing half done."""
    return None


def give_up(claim: Claim, site: Site, error: Mapping[str, Any] | None) -> None:
    """There is nothing to clear away."""
