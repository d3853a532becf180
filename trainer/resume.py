"""Checkpoints: what an attempt leaves behind so that the next one goes on instead of starting over.

A checkpoint is a folder, `epoch-000003-step-000000000`: `arrays.npz`, `state.json` and the digests of both.
It is written aside, fsynced and renamed, so a reader never meets half of one; a damaged one is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ResumeError

if TYPE_CHECKING:
    import numpy as np

FORMAT = 3
KEPT = 2
_ARRAYS, _STATE, _DIGESTS = "arrays.npz", "state.json", "SHA256SUMS"
# What begins so is being written or being deleted: no reader looks at it.
_ASIDE = ".tmp-"


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
        # What was found of each, by name: pruning must not read gigabytes again at every save.
        self._whole: dict[str, bool] = {}

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint so that it is there wholly or not at all, and let go of all but the last two.

        Raises:
            OSError: the disk is full or failing; what was there before still is, and nothing else.
        """
        self._make_folder()
        final = self._folder / _name(checkpoint)
        aside = self._aside()
        try:
            aside.mkdir()
            _write(checkpoint, aside)
            if final.exists():
                # Passed over as damaged: a resumed run makes only what lies beyond the newest good one.
                self._discard(final)
            aside.rename(final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _fsync(self._folder)
        self._whole[final.name] = True
        self._prune()

    def newest(self, note: Callable[[str], None] | None = None) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None; `note` is told of each passed over."""
        for folder in self._newest_first():
            self._whole[folder.name] = _matches_its_digests(folder)
            if self._whole[folder.name]:
                return _read(folder)
            if note is not None:
                note(f"checkpoint {folder.name} is damaged and was passed over")
        return None

    def furthest(self) -> str | None:
        """Name the checkpoint that got furthest, whole or not: another name means that training went on."""
        return next((folder.name for folder in self._newest_first()), None)

    def sweep(self) -> None:
        """Remove what a killed writer left; at an attempt's start, never later: another may be writing."""
        for leftover in self._folder.glob(f"{_ASIDE}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _prune(self) -> None:
        """Keep the newest two that are whole; a damaged one beyond them still says how far training got."""
        whole = 0
        for folder in self._newest_first():
            if whole == KEPT:
                self._discard(folder)
            elif self._is_whole(folder):
                whole += 1

    def _is_whole(self, folder: Path) -> bool:
        if folder.name not in self._whole:
            self._whole[folder.name] = _matches_its_digests(folder)
        return self._whole[folder.name]

    def _discard(self, folder: Path) -> None:
        """Delete a checkpoint; a kill half-way must not leave half of one under its name."""
        aside = self._aside()
        # Gone already: another attempt, which is about to be ended, prunes here as well.
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
            shutil.rmtree(aside)
        self._whole.pop(folder.name, None)

    def _aside(self) -> Path:
        return self._folder / f"{_ASIDE}{uuid.uuid4().hex}"

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            _fsync(self._folder.parent)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"), reverse=True)


def numbered(owner: str, arrays: Iterable[Any]) -> dict[str, np.ndarray]:
    """Key arrays by owner and number, as a checkpoint holds them."""
    import numpy as np

    return {f"{owner}/{number}": np.asarray(array) for number, array in enumerate(arrays)}


def require_same(part: str, recorded: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Compare a part's recorded state with its present one, both JSON.

    Raises:
        ResumeError: they differ; it names what does.
    """
    differing = [name for name in {**recorded, **present} if recorded.get(name) != present.get(name)]
    if differing:
        said = "; ".join(f"{name} was {recorded.get(name)!r}, is {present.get(name)!r}" for name in differing)
        raise ResumeError(
            f"{part} changed since the checkpoint was written: {said}",
            remedy="Submit a new job: a resumed one goes on with the same rows in the same order.",
        )


def _name(checkpoint: Checkpoint) -> str:
    # `~` sorts after every digit: a complete checkpoint is newer than any other of its epoch.
    step = "~complete" if checkpoint.complete else f"{checkpoint.step:09d}"
    return f"epoch-{checkpoint.epoch:06d}-step-{step}"


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the three files and have the disk hold them, and the folder's list of them, before the rename."""
    import numpy as np

    with (folder / _ARRAYS).open("wb") as file:
        np.savez(
            file, allow_pickle=False, **{name: _plain(array) for name, array in checkpoint.arrays.items()}
        )
    state = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "complete": checkpoint.complete,
        "values": checkpoint.values,
        "dtypes": {name: array.dtype.name for name, array in checkpoint.arrays.items() if _foreign(array)},
    }
    (folder / _STATE).write_text(json.dumps(state))
    digests = {name: _digest(folder / name) for name in (_ARRAYS, _STATE)}
    (folder / _DIGESTS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    for path in (*folder.iterdir(), folder):
        _fsync(path)


def _matches_its_digests(folder: Path) -> bool:
    try:
        lines = (folder / _DIGESTS).read_text().splitlines()
        digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
        return digests == {name: _digest(folder / name) for name in (_ARRAYS, _STATE)}
    except (OSError, ValueError):
        return False


def _read(folder: Path) -> Checkpoint:
    import ml_dtypes  # noqa: F401  # NumPy learns the names bfloat16 and float8_... by this import
    import numpy as np

    state = json.loads((folder / _STATE).read_text())
    if state["format"] != FORMAT:
        raise ResumeError(f"{folder.name} was written by another version of the trainer")
    dtypes = state["dtypes"]
    with np.load(folder / _ARRAYS, allow_pickle=False) as archive:
        arrays = {
            name: archive[name].view(np.dtype(dtypes[name])) if name in dtypes else archive[name]
            for name in archive.files
        }
    return Checkpoint(state["epoch"], state["step"], state["complete"], state["values"], arrays)


def _foreign(array: np.ndarray) -> bool:
    """Whether the dtype is one that NumPy only knows from another library, as bfloat16: a file forgets it."""
    return array.dtype.isbuiltin == 2


def _plain(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}") if _foreign(array) else array


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
