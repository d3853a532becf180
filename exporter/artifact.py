"""What an export leaves behind: a file or a folder, with its digest and its proof."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter.parity import Parity
from exporter.proof import Latency

EXTRA = "assets.extra"
"""The folder of a version that TensorFlow Serving leaves to others: it belongs to no artifact."""


@dataclass(frozen=True)
class Artifact:
    """One artifact of a version.

    `path` is relative to the version's folder ("." for the SavedModel). `sha256` is the file's digest, or for
    a folder that of the lines `<sha256 of file>  <relative path>` sorted by path, as `sha256sum` writes them.
    `parity`, `latency_ms` (by rows a call) and `load_ms` are None for the weights, which nothing runs: they
    are compared with the model's variables bit by bit. `signature` describes the artifact's own tensors, in
    the form of `exporter.signatures.Signature`, where its runtime tells them.
    """

    name: str
    format: str
    path: str
    size_bytes: int
    sha256: str
    # Any: the values of the format's own options.
    options: Mapping[str, Any]
    runtime: str | None
    recipe: str
    parity: Parity | None
    latency_ms: Mapping[int, Latency] | None
    load_ms: float | None
    # Any: a JSON document.
    signature: Mapping[str, Any] | None = None

    # Any: a JSON document.
    def to_json(self) -> dict[str, Any]:
        """Write the artifact as it stands in a version's manifest."""
        latency = self.latency_ms
        return {
            "name": self.name,
            "format": self.format,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "options": dict(self.options),
            "runtime": self.runtime,
            "recipe": self.recipe,
            "parity": self.parity and self.parity.to_json(),
            "latency_ms": latency and {str(rows): asdict(figures) for rows, figures in latency.items()},
            "load_ms": self.load_ms,
            "signature": self.signature,
        }


def measure(path: Path) -> tuple[int, str]:
    """Return an artifact's size in bytes and its digest, as `Artifact` defines them."""
    if path.is_file():
        return path.stat().st_size, _sha256(path)
    lines = hashlib.sha256()
    size_bytes = 0
    for file in _files(path):
        size_bytes += file.stat().st_size
        lines.update(f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return size_bytes, lines.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    inside = (file for file in files if file.relative_to(folder).parts[0] != EXTRA)
    yield from sorted(inside, key=lambda file: file.relative_to(folder).as_posix())


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
