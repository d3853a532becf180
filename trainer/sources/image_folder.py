"""Images in one folder a class, as Keras's image_dataset_from_directory reads them, or such a zip archive."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from trainer.errors import InvalidDataError
from trainer.frames import FrameTable, kept_once, write_parquet
from trainer.source import DataFile, FileOptions
from trainer.table import Table
from trainer.unpacking import check_unpacked, first_member

if TYPE_CHECKING:
    import polars as pl

KIND = "image_folder"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF")
MOST_FILES, LARGEST_BYTES, MOST_PIXELS = 1_000_000, 64 << 20, 50_000_000
BATCH_BYTES = 32 << 20


class Options(FileOptions):
    """A zip archive, or a folder, with one folder a class, each of JPEG, PNG, BMP or GIF files.

    Column `image` is the encoded file, `label` the name of its folder. Rows are in the order of the classes'
    names, then of the files'. Folders around those of the classes are passed through, other files passed
    over. Every image is decoded once, so that a damaged one is told of before training.
    """

    kind: Literal["image_folder"]


@dataclass(frozen=True)
class _File:
    """A file in a folder or an archive."""

    path: PurePosixPath
    size_bytes: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class _Image:
    """One image and its class."""

    label: str
    file: _File

    @property
    def name(self) -> str:
        """What errors call it."""
        return _shown(self.file.path)


def detect(head: bytes, filename: str) -> bool:
    """Say whether this is a folder, or a zip archive that isn't one of arrays."""
    if filename.endswith("/"):
        return True
    first = first_member(head)
    return first is not None and not first.endswith(".npy") and not filename.lower().endswith(".npz")


def open_table(options: Options | None, file: DataFile) -> Table:  # noqa: ARG001 - the contract of sources
    """Open the images as a Parquet file, which is made if there is none."""

    def convert(target: Path) -> None:
        with ExitStack() as stack:
            found = _in_folder(file.path) if file.path.is_dir() else _in_archive(file.path, stack)
            _write(_classified(found), target)

    return FrameTable(kept_once(file.converted(KIND, suffix=".parquet"), convert))


def _in_folder(folder: Path) -> list[_File]:
    return [
        _File(PurePosixPath(path.relative_to(folder).as_posix()), path.stat().st_size, path.read_bytes)
        for path in folder.rglob("*")
        if path.is_file()
    ]


def _in_archive(path: Path, stack: ExitStack) -> list[_File]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"the archive can't be read: {error}") from error
    members = [each for each in archive.infolist() if not each.is_dir()]
    if len(members) > MOST_FILES:
        raise InvalidDataError(f"the archive has {len(members):,} files; at most {MOST_FILES:,} are read")
    check_unpacked("the archive", path.stat().st_size, sum(each.file_size for each in members))

    def reading(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            # Nothing is written under a name of the archive's, so none can lead out of a folder.
            with archive.open(member) as content:
                return content.read(LARGEST_BYTES + 1)

        return read

    return [_File(PurePosixPath(each.filename), each.file_size, reading(each)) for each in members]


def _classified(found: Sequence[_File]) -> list[_Image]:
    """Return the images, sorted, each with the name of its class's folder."""
    images = [file for file in found if file.path.suffix.lower() in SUFFIXES and not _hidden(file.path)]
    if not images:
        raise InvalidDataError(
            "no images: a folder a class is looked for, with .jpg, .png, .bmp or .gif files in it"
        )
    paths = [file.path for file in images]
    for path in paths:
        if path.is_absolute() or ".." in path.parts:
            raise InvalidDataError(
                f"{_shown(path)!r} leads out of the archive", location={"file": _shown(path)}
            )
    depth = 0  # of the folders of the classes
    while (
        min(len(path.parts) for path in paths) > depth + 2 and len({path.parts[depth] for path in paths}) == 1
    ):
        depth += 1
    for path in paths:
        if len(path.parts) < depth + 2:
            raise InvalidDataError(
                f"{_shown(path)!r} is in no folder of a class",
                location={"file": _shown(path)},
                remedy="Put each image into a folder that is called as its class.",
            )
        if _shown(path.parts[depth]) != path.parts[depth]:
            raise InvalidDataError(
                f"the class of {_shown(path)!r} is not in UTF-8",
                location={"file": _shown(path)},
                remedy="Give the folder a name in UTF-8.",
            )
    classified = (_Image(file.path.parts[depth], file) for file in images)
    return sorted(classified, key=lambda image: (image.label, image.name))


def _shown(path: PurePosixPath | str) -> str:
    """Return a path as text that can be stored: bytes that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)


def _write(images: Sequence[_Image], target: Path) -> None:
    import polars as pl

    schema = {"image": pl.Binary(), "label": pl.String()}
    mean_bytes = max(1, sum(image.file.size_bytes for image in images) // len(images))
    batch = max(1, min(4096, BATCH_BYTES // mean_bytes))

    def frames() -> Iterator[pl.DataFrame]:
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            contents = [_verified(image, row) for row, image in enumerate(some, start + 1)]
            yield pl.DataFrame({"image": contents, "label": [image.label for image in some]}, schema=schema)

    write_parquet(target, frames(), schema, group_rows=batch)


def _verified(image: _Image, row: int) -> bytes:
    """Return the file's bytes, which were decoded to see that they can be."""
    from PIL import Image

    try:
        content = image.file.read()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise _bad(image, row, f"can't be read: {error}") from error
    if len(content) > LARGEST_BYTES:
        raise _bad(image, row, f"has more than {LARGEST_BYTES:,} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large images and odd metadata
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise _bad(image, row, f"has {opened.width} x {opened.height} pixels, too many")
                opened.load()
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            what = (
                "is no JPEG, PNG, BMP or GIF" if "cannot identify" in str(error) else f"is damaged: {error}"
            )
            raise _bad(image, row, what) from error
    return content


def _bad(image: _Image, row: int, what: str) -> InvalidDataError:
    return InvalidDataError(
        f"image {image.name!r}, row {row}, {what}",
        location={"row": row, "column": "image", "file": image.name},
        remedy="Mend the file or leave it out.",
    )
