"""A folder as one tar stream that is the same, byte for byte, wherever and whenever it is made."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

CHUNK_BYTES = 1 << 20


def pack(folder: Path, exclude: Sequence[str] = ("assets.extra",), *, start: int = 0) -> Iterator[bytes]:
    """Yield the folder as an uncompressed tar, from its byte `start` on.

    `exclude` names entries of its top level to leave out. Entries are sorted by path and carry no time, owner
    or mode of their own, so that equal contents give equal bytes. Links and devices are left out: a
    SavedModel has none.
    """
    for piece in _pieces(folder, exclude):
        size = len(piece) if isinstance(piece, bytes) else piece.stat().st_size
        if start >= size:
            start -= size
            continue
        if isinstance(piece, bytes):
            yield piece[start:]
        else:
            yield from read(piece, start=start)
        start = 0


def _pieces(folder: Path, exclude: Sequence[str]) -> Iterator[bytes | Path]:
    """The tar's headers and paddings, and between them the files whose content comes there."""
    for path in _entries(folder, exclude):
        info = tarfile.TarInfo(path.relative_to(folder).as_posix())
        if path.is_dir():
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield _header(info)
        else:
            info.mode, info.size = 0o644, path.stat().st_size
            yield _header(info)
            yield path
            yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def digest(path: Path, exclude: Sequence[str] = ("assets.extra",)) -> tuple[str, int]:
    """Return SHA-256 (hex) and size in bytes of a download of `path`: the file, or the folder's tar."""
    sha256, size_bytes = hashlib.sha256(), 0
    for chunk in read(path) if path.is_file() else pack(path, exclude):
        sha256.update(chunk)
        size_bytes += len(chunk)
    return sha256.hexdigest(), size_bytes


def read(path: Path, *, start: int = 0) -> Iterator[bytes]:
    """Yield a file's content, from its byte `start` on, in chunks of at most CHUNK_BYTES."""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _entries(folder: Path, exclude: Sequence[str]) -> list[Path]:
    entries = (path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in exclude)
    kept = [path for path in entries if not path.is_symlink() and (path.is_dir() or path.is_file())]
    return sorted(kept, key=lambda path: path.relative_to(folder).parts)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
