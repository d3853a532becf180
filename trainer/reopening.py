"""A published model once more, with the rows that its training held out: what another export is proven by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.architecture import Base, restored
from trainer.explaining import explained
from trainer.keeping import place_of
from trainer.loading import load
from trainer.rows import ProofRows, named_as, proof_rows
from trainer.source import DataFile

if TYPE_CHECKING:
    import keras

    from trainer.spec import Data


def reopen(
    data: Data,
    *,
    seed: int,
    base: Base,
    data_file: DataFile | Path | None,
    workdir: Path | None = None,
    memory_bytes: int | None = None,
) -> tuple[keras.Model, ProofRows]:
    """Build the version's model and split its data as training did; `seed` is the one it was trained with.

    Rows that don't fit into `memory_bytes` are kept in `workdir` meanwhile.

    Raises:
        InvalidDataError, DataUnreachableError: the data.
        SpecUnbuildableError: the model, or the data don't fit it.
    """
    with place_of(workdir) as folder:
        splits = load(
            data,
            DataFile.of(data_file),
            seed,
            folder=folder,
            published=base.fitted,
            memory_bytes=memory_bytes,
        )
        with explained():
            model = restored(base, splits.train.shapes)
            return model, proof_rows(model, named_as(model, splits))
