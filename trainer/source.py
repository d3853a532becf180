"""The contract of a data source: its options, how a file is known, how it becomes a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, cast

from pydantic import Field, model_validator

from trainer.column import ColumnOptions, column_kinds
from trainer.discovery import discover
from trainer.errors import DataUnreachableError, InvalidDataError
from trainer.forms import ByKind, SpecModel, at_least, one_message
from trainer.pipeline import PipelineOptions
from trainer.splitting import Fraction, SplitOptions

if TYPE_CHECKING:
    from trainer.table import Table

ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
Columns = Annotated[tuple[ColumnName, ...], at_least(1)]
# Names of the input and the target that the spec leaves unnamed.
FEATURES, LABEL = "features", "label"
Column = Annotated[
    ColumnOptions, ByKind("column", {kind: each.Options for kind, each in column_kinds().items()})
]


@dataclass(frozen=True)
class Held:
    """Rows within options: the SHA-256 of them, in hexadecimal, and the shape of a row by column."""

    digest: str
    shapes: Mapping[str, tuple[int, ...]]


class DataOptions(SpecModel):
    """What every source has in common: which columns, which parts, the pipeline behind them."""

    # Fields of a source on which it depends what columns a file has.
    reads_by: ClassVar[frozenset[str]] = frozenset()

    kind: str
    features: Annotated[
        ColumnName | Columns | dict[ColumnName, ColumnName | Columns],
        one_message("expected a column, a list of columns, or an object from input names to columns"),
    ]
    label: Annotated[
        ColumnName | Columns | dict[ColumnName, ColumnName | Columns] | None,
        one_message("expected a column, a list of columns, or an object from output names to columns"),
    ] = None
    sample_weight: ColumnName | None = None
    columns: dict[ColumnName, Column] = Field(default_factory=dict)
    split: SplitOptions | None = None
    validation_split: Fraction | None = None
    pipeline: PipelineOptions = PipelineOptions()

    @model_validator(mode="after")
    def _one_way_to_split(self) -> DataOptions:
        if self.split is not None and self.validation_split is not None:
            raise ValueError("split and validation_split exclude each other")
        if self.further and (self.split is not None or self.validation_split is not None):
            raise ValueError(
                f"{' and '.join(self.further)} beside data: leave split and validation_split out"
            )
        if isinstance(self.features, dict) and not self.features:
            raise ValueError("features names no column")
        for columns in self.targets.values():
            for name in columns:
                kind = self.columns[name].kind if name in self.columns else "number"
                if kind not in {"number", "category"}:
                    raise ValueError(f"label {name!r} is of kind {kind}: a label is a number or a category")
        return self

    @property
    def held(self) -> Held | None:
        """The rows that the options hold themselves, if they do."""
        return None

    @property
    def further(self) -> Mapping[str, FurtherSet]:
        """The sets besides this one, whose rows then all train, by the part that they are."""
        return {}

    @property
    def place(self) -> str:
        """What errors call the data."""
        return "data"

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """The columns of each input; an unnamed one is called `features`."""
        named = self.features if isinstance(self.features, dict) else {FEATURES: self.features}
        return {name: _several(columns) for name, columns in named.items()}

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """The columns of each target; an unnamed one is called `label`."""
        if self.label is None:
            return {}
        named = self.label if isinstance(self.label, dict) else {LABEL: self.label}
        return {name: _several(columns) for name, columns in named.items()}

    @property
    def validates(self) -> bool:
        """Whether a part of the rows is kept for validation."""
        return self.split is not None or self.validation_split is not None or "validation" in self.further


Uri = Annotated[str, Field(min_length=1, max_length=2000)]


class FurtherSet(SpecModel):
    """A set of its own for a part, of the same kind and with the same columns."""

    uri: Uri


class FileOptions(DataOptions):
    """What every source of files has besides: where the file is, and those of further sets."""

    uri: Uri
    validation: FurtherSet | None = None
    test: FurtherSet | None = None

    @property
    def further(self) -> Mapping[str, FurtherSet]:
        """The sets besides this one, whose rows then all train, by the part that they are."""
        sets = {"validation": self.validation, "test": self.test}
        return {part: each for part, each in sets.items() if each is not None}

    @property
    def place(self) -> str:
        """What errors call the data."""
        return self.uri


@dataclass(frozen=True)
class DataFile:
    """A file or folder of data, and a folder of our own for what it is converted to.

    `further` has those of further sets, by the part that they are.
    """

    path: Path
    conversions: Path
    known_digest: str | None = None
    further: Mapping[str, DataFile] = field(default_factory=dict)

    @classmethod
    def of(cls, file: DataFile | Path | None) -> DataFile | None:
        """Describe a file of which nothing but its path may be known."""
        return cls(file, file.parent / ".converted") if isinstance(file, Path) else file

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the content, in hexadecimal; of a folder, that of its files' names and digests."""
        return self.known_digest or _digest(self.path)

    def converted(self, *how: object, suffix: str) -> Path:
        """Where the file's content lies after it was converted in this way."""
        said = hashlib.sha256(repr((self.digest, *how)).encode()).hexdigest()
        return self.conversions / f"{said}{suffix}"


class Source(Protocol):
    """A module of `trainer.sources`: it names its kind and reads its format."""

    KIND: str
    Options: type[DataOptions]

    @staticmethod
    def detect(head: bytes, filename: str) -> bool:
        """Say whether a file that begins so (up to 4096 bytes) and is called so is of this kind.

        A folder has no beginning, and / at the end of its name.
        """

    @staticmethod
    def open_table(options: Any, file: Any) -> Table:  # noqa: ANN401
        """Open a `DataFile` as the module's own Options say, or without them as it is read by default.

        There is no file where the options hold the rows.

        Raises:
            InvalidDataError: it is damaged, or of another format.
        """


@cache
def sources() -> dict[str, Source]:
    """Return every source by its kind."""
    found = discover("trainer.sources", "KIND", "Options", "detect", "open_table")
    return {kind: cast("Source", module) for kind, module in found.items()}


def detect(path: Path, filename: str) -> str:
    """Return the kind of a file from its first bytes and its name, or of a folder.

    Raises:
        InvalidDataError: it is of no known kind.
    """
    if path.is_dir():
        head, filename = b"", f"{filename.rstrip('/')}/"
    else:
        with path.open("rb") as file:
            head = file.read(4096)
    for kind, source in sources().items():
        if source.detect(head, filename):
            return kind
    raise InvalidDataError(
        f"{filename!r} is none of the data formats known: {', '.join(sources())}",
        remedy="Upload one of the known formats, under its usual file name ending.",
    )


def open_table(options: DataOptions, file: DataFile | None) -> Table:
    """Open the data that the options name or hold.

    Raises:
        DataUnreachableError: the file can't be read.
        InvalidDataError: it isn't what its kind says, or has no rows.
    """
    if options.held is None and (file is None or not file.path.exists()):
        raise DataUnreachableError(f"no data at {options.place}")
    try:
        table = sources()[options.kind].open_table(options, file)
    except OSError as error:
        raise DataUnreachableError(f"{options.place} can't be read: {error.strerror or error}") from error
    if table.rows == 0:
        raise InvalidDataError(f"{options.place} has no rows")
    return table


def further_tables(options: DataOptions, file: DataFile | None) -> dict[str, Table]:
    """Open the further sets that the options name, by the part that they are.

    Raises:
        DataUnreachableError, InvalidDataError: as for `open_table`.
    """
    files = file.further if file is not None else {}
    return {
        part: open_table(options.model_copy(update={"uri": each.uri}), files.get(part))
        for part, each in options.further.items()
    }


def digest_of(options: DataOptions, file: DataFile | None) -> str:
    """Return the SHA-256 of the data, in hexadecimal; of several sets, that of their parts and digests."""
    if options.held is not None:
        return options.held.digest
    assert file is not None
    if not options.further:
        return file.digest
    named = [f"{part}\0{file.further[part].digest}\n" for part in sorted(options.further)]
    return hashlib.sha256("".join([f"{file.digest}\n", *named]).encode()).hexdigest()


def _several(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else columns


def _digest(path: Path) -> str:
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        named = [f"{each.relative_to(path)}\0{_digest(each)}\n" for each in files]
        return hashlib.sha256("".join(named).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
