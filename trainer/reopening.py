"""A model with the rows that training holds out, but no training: what an export is tried or proven by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.architecture import Base, Shape, build, restored
from trainer.explaining import explained
from trainer.keeping import place_of
from trainer.loading import load
from trainer.rows import ProofRows, named_as, proof_rows
from trainer.source import DataFile

if TYPE_CHECKING:
    import keras

    from trainer.spec import Data, TrainSpec


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
    return _opened(data, seed, base, data_file, workdir, memory_bytes, lambda rows: restored(base, rows))


def untrained(
    spec: TrainSpec,
    *,
    seed: int,
    data_file: DataFile | Path | None,
    base: Base | None = None,
    workdir: Path | None = None,
    memory_bytes: int | None = None,
) -> tuple[keras.Model, ProofRows]:
    """Build the spec's model with the weights that training would begin with; all else as `reopen`."""
    return _opened(
        spec.data,
        seed,
        base,
        data_file,
        workdir,
        memory_bytes,
        lambda rows: build(spec.model, rows, base),
    )


def _opened(
    data: Data,
    seed: int,
    base: Base | None,
    data_file: DataFile | Path | None,
    workdir: Path | None,
    memory_bytes: int | None,
    make: Callable[[Mapping[str, Shape] | None], keras.Model],
) -> tuple[keras.Model, ProofRows]:
    with place_of(workdir) as folder:
        splits = load(
            data,
            DataFile.of(data_file),
            seed,
            folder=folder,
            published=base.fitted if base else None,
            memory_bytes=memory_bytes,
        )
        with explained():
            model = make(splits.train.shapes)
            return model, proof_rows(model, named_as(model, splits))
