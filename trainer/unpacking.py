"""Compressed files, unpacked as far as is sane: a few bytes must not fill a disk."""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from trainer.errors import InvalidDataError

GZIP = b"\x1f\x8b\x08"
# Text tables come to a tenth, sparse arrays to a hundredth; deflate can do a thousandth.
MOST_TIMES, LEAST_BYTES = 100, 256 << 20
_BLOCK = 1 << 20


class _Writes(Protocol):
    def write(self, block: bytes, /) -> object:
        """Take some bytes."""


def most_unpacked(packed_bytes: int) -> int:
    """Return how many bytes so many may become."""
    return max(LEAST_BYTES, MOST_TIMES * packed_bytes)


def check_unpacked(what: str, packed_bytes: int, unpacked_bytes: int) -> None:
    """See that a file is no bomb.

    Raises:
        InvalidDataError: it becomes more than it may.
    """
    most = most_unpacked(packed_bytes)
    if unpacked_bytes > most:
        raise InvalidDataError(
            f"{what} has {packed_bytes:,} bytes and unpacks to more than {most:,}",
            remedy="Upload it less compressed, or as Parquet.",
        )


def plain_head(head: bytes) -> bytes:
    """Return the beginning of what a file holds, unpacked if it is compressed."""
    if not head.startswith(GZIP):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 4096)
    except zlib.error:
        return b""


def first_member(head: bytes) -> str | None:
    """Return the name of the first file in a zip archive that begins so, or None if it is none.

    The name is that of a local file header: PKWARE's APPNOTE 4.3.7.
    """
    if not head.startswith(b"PK\x03\x04") or len(head) < 30:
        return None
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].decode("utf-8", "replace")


@contextlib.contextmanager
def unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """Give the file itself, or, if it is compressed by gzip, its content as a file in `folder` for a while.

    Raises:
        InvalidDataError: it ends early, is damaged or unpacks to too much.
    """
    with path.open("rb") as packed:
        if packed.read(len(GZIP)) != GZIP:
            yield path
            return
        packed.seek(0)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".unpacked-", dir=folder) as plain:
            _unpack(packed, plain, path.stat().st_size)
            plain.flush()
            yield Path(plain.name)


def _unpack(packed: BinaryIO, plain: _Writes, packed_bytes: int) -> None:
    import gzip

    done = 0
    try:
        with gzip.GzipFile(fileobj=packed) as content:
            while block := content.read(_BLOCK):
                done += len(block)
                check_unpacked("the gzip file", packed_bytes, done)
                plain.write(block)
    except EOFError as error:
        raise InvalidDataError(
            f"the gzip file ends in its midst, at byte {packed_bytes:,}", location={"byte": packed_bytes}
        ) from error
    except (OSError, zlib.error) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        at = packed.tell()
        raise InvalidDataError(
            f"the gzip file is damaged before byte {at:,}: {error}", location={"byte": at}
        ) from error
