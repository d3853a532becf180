"""What TensorFlow Serving is told to serve: models.config, written by the service alone, from the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.store import ServedModel, Store

if TYPE_CHECKING:
    from service.records import Records


def announce(records: Records, store: Store) -> None:
    """Write models.config anew if the rows say something else than the file; one process at a time."""

    def write(latest: dict[str, int]) -> None:
        store.write_models_config({model: ServedModel() for model in latest})

    records.versions.under_lock(write)
