"""Checkpoints: what an attempt leaves behind so that the next one goes on instead of starting over.

A checkpoint is a folder, `epoch-000003-step-000000000`: `arrays.npz`, `state.json` and the digests of both.
It is written aside, fsynced and renamed, so a reader never meets half of one; a damaged one is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ResumeError

if TYPE_CHECKING:
    import keras
    import numpy as np

FORMAT = 1
KEPT = 2
_ARRAYS, _STATE, _DIGESTS = "arrays.npz", "state.json", "SHA256SUMS"


@dataclass(frozen=True)
class Checkpoint:
    """The state of training after `epoch` whole epochs and `step` batches of the next.

    `complete` says that training is over and the model holds the weights to export. `values` is JSON;
    `arrays` is keyed `<owner>/<number>`: model, optimizer, metrics, callbacks.<n>.
    """

    epoch: int
    step: int = 0
    complete: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, owner: str) -> list[np.ndarray]:
        """Return the arrays of one owner in their order."""
        mine = {
            int(key.rpartition("/")[2]): array
            for key, array in self.arrays.items()
            if key.rpartition("/")[0] == owner
        }
        return [mine[number] for number in sorted(mine)]


class Checkpoints:
    """The checkpoints in one folder, which is made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint so that it is there wholly or not at all, and let go of all but the last two."""
        import numpy as np

        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(".tmp-*"):
            shutil.rmtree(leftover)
        aside = self._folder / f".tmp-{os.getpid()}"
        aside.mkdir()
        with (aside / _ARRAYS).open("wb") as file:
            np.savez(file, allow_pickle=False, **checkpoint.arrays)
        (aside / _STATE).write_text(
            json.dumps({"format": FORMAT, "epoch": checkpoint.epoch, "step": checkpoint.step,
                        "complete": checkpoint.complete, "values": checkpoint.values})
        )  # fmt: skip
        (aside / _DIGESTS).write_text(
            "".join(f"{_digest(aside / name)}  {name}\n" for name in (_ARRAYS, _STATE))
        )
        for path in (*aside.iterdir(), aside):
            _fsync(path)
        final = self._folder / _name(checkpoint)
        if final.exists():
            # Damaged, or made again: resuming starts from the newest good one.
            shutil.rmtree(final)
        aside.rename(final)
        _fsync(self._folder)
        for old in self._newest_first()[KEPT:]:
            shutil.rmtree(old)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None."""
        for folder in self._newest_first():
            if _whole(folder):
                return _read(folder)
        return None

    def furthest(self) -> str | None:
        """Name the checkpoint that got furthest, whole or not: another name means that training went on."""
        return next((folder.name for folder in self._newest_first()), None)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"), reverse=True)


def numbered(owner: str, arrays: Iterable[Any]) -> dict[str, np.ndarray]:
    """Key arrays (or Keras variables) by owner and number, as a checkpoint holds them."""
    import numpy as np

    return {f"{owner}/{number}": np.asarray(array) for number, array in enumerate(arrays)}


def assign(variables: Iterable[keras.Variable], arrays: Iterable[np.ndarray], owner: str) -> None:
    """Put arrays back into variables.

    Raises:
        ResumeError: number or shapes differ, so the checkpoint is of another model.
    """
    variables, arrays = list(variables), list(arrays)
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise ResumeError(
            f"the checkpoint's {owner} variables are not those of this spec",
            remedy="Submit a new job: a resumed one must have the same spec.",
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _name(checkpoint: Checkpoint) -> str:
    # `~` sorts after every digit: a complete checkpoint is newer than any other of its epoch.
    step = "~complete" if checkpoint.complete else f"{checkpoint.step:09d}"
    return f"epoch-{checkpoint.epoch:06d}-step-{step}"


def _whole(folder: Path) -> bool:
    try:
        lines = (folder / _DIGESTS).read_text().splitlines()
        return len(lines) == 2 and all(
            _digest(folder / name) == digest for digest, name in (line.split("  ") for line in lines)
        )
    except (OSError, ValueError):
        return False


def _read(folder: Path) -> Checkpoint:
    import numpy as np

    state = json.loads((folder / _STATE).read_text())
    if state["format"] != FORMAT:
        raise ResumeError(f"{folder.name} was written by another version of the trainer")
    with np.load(folder / _ARRAYS, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Checkpoint(state["epoch"], state["step"], state["complete"], state["values"], arrays)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
