"""What TensorFlow Serving is told to serve: models.config, written by the service alone, from the rows.

A model without aliases is served at its latest version; with them, at the latest and at each that an alias
means. A label goes to its version once serving says AVAILABLE of it, since TensorFlow Serving refuses a file
with a label for any other; until then it stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from serving.store import ServedModel, Store

if TYPE_CHECKING:
    from service.records import Alias, Records
    from service.serving_client import ServingClient

log = structlog.get_logger(__name__)


def announce(records: Records, store: Store) -> None:
    """Write models.config anew if the rows say something else than the file; one process at a time."""

    def write(latest: dict[str, int], aliases: Sequence[Alias]) -> None:
        store.write_models_config(
            {
                model: _served(number, [alias for alias in aliases if alias.model == model])
                for model, number in latest.items()
            }
        )

    records.versions.under_lock(write)


def assign_aliases(records: Records, serving: ServingClient) -> None:
    """Let every alias be answered whose version serving has loaded."""
    for alias in records.aliases.unassigned():
        if serving.state(alias.model, alias.version).state == "AVAILABLE" and records.aliases.assign(alias):
            log.info("alias_assigned", model=alias.model, alias=alias.name, version=alias.version)


def _served(latest: int, aliases: Sequence[Alias]) -> ServedModel:
    if not aliases:
        return ServedModel()
    labels = {alias.name: alias.assigned for alias in aliases if alias.assigned is not None}
    return ServedModel(
        versions=frozenset({latest, *labels.values(), *(alias.version for alias in aliases)}), labels=labels
    )
