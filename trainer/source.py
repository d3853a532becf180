"""The contract of a data source: its options, how a file is looked at, how it is read for training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.discovery import discover
from trainer.errors import DataUnreachableError, InvalidDataError
from trainer.forms import SpecModel, at_least, one_message
from trainer.pipeline import PipelineOptions
from trainer.resume import require_same
from trainer.splitting import Fraction, SplitOptions, split

if TYPE_CHECKING:
    import numpy as np

ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
Columns = Annotated[tuple[ColumnName, ...], at_least(1)]
# Names of the input and the target that the spec leaves unnamed.
FEATURES, LABEL = "features", "label"


class ColumnOptions(SpecModel):
    """What a column holds; a number is all a column can hold so far."""

    kind: Literal["number"] = "number"


class DataOptions(SpecModel):
    """What every source has in common: where, which columns, which parts, the pipeline behind them."""

    kind: str
    uri: Annotated[str, Field(min_length=1, max_length=2000)]
    features: Annotated[
        ColumnName | Columns | dict[ColumnName, ColumnName | Columns],
        one_message("expected a column, a list of columns, or an object from input names to columns"),
    ]
    label: Annotated[
        ColumnName | dict[ColumnName, ColumnName] | None,
        one_message("expected a column, or an object from output names to columns"),
    ] = None
    sample_weight: ColumnName | None = None
    columns: dict[ColumnName, ColumnOptions] = Field(default_factory=dict)
    split: SplitOptions | None = None
    validation_split: Fraction | None = None
    pipeline: PipelineOptions = PipelineOptions()

    @model_validator(mode="after")
    def _one_way_to_split(self) -> DataOptions:
        if self.split is not None and self.validation_split is not None:
            raise ValueError("split and validation_split exclude each other")
        if isinstance(self.features, dict) and not self.features:
            raise ValueError("features names no column")
        return self

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """The columns of each input; an unnamed one is called `features`."""
        named = self.features if isinstance(self.features, dict) else {FEATURES: self.features}
        return {name: (columns,) if isinstance(columns, str) else columns for name, columns in named.items()}

    @property
    def targets(self) -> dict[str, str]:
        """The column of each target; an unnamed one is called `label`."""
        if self.label is None:
            return {}
        return self.label if isinstance(self.label, dict) else {LABEL: self.label}

    @property
    def validates(self) -> bool:
        """Whether a part of the rows is kept for validation."""
        return self.split is not None or self.validation_split is not None


class Profiled(BaseModel):
    """A part of what is told about a data set."""

    model_config = ConfigDict(frozen=True)


class ColumnProfile(Profiled):
    """One column: `shape` is that of one row, () for a scalar; a statistic is null where it means nothing."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    missing: int = 0
    distinct: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None


class Anomaly(Profiled):
    """Something about a column that may surprise; `row` counts from 1."""

    column: str
    detail: str
    row: int | None = None


class DataProfile(Profiled):
    """What a data set holds, read without TensorFlow."""

    kind: str
    rows: int
    columns: tuple[ColumnProfile, ...]
    anomalies: tuple[Anomaly, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Rows: input name to (rows, ...), target name to (rows, ...), and how much each counts, (rows,)."""

    features: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one row of each input."""
        return {name: array.shape[1:] for name, array in self.features.items()}

    def take(self, rows: np.ndarray | slice) -> Samples:
        """Return these rows only."""
        return Samples(
            {name: array[rows] for name, array in self.features.items()},
            {name: array[rows] for name, array in self.targets.items()},
            None if self.weights is None else self.weights[rows],
        )


@dataclass(frozen=True)
class Splits:
    """The parts of one data set, in memory, and the digest of the file they come from."""

    train: Samples
    validation: Samples | None
    test: Samples | None
    digest: str = field(repr=False)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: enough to know them again."""
        return {"digest": self.digest, "rows": [len(part) if part else 0 for part in self._parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Accept the data a checkpoint was made with.

        Raises:
            ResumeError: these are other data, or they were split otherwise.
        """
        require_same("the data", state, self.state())

    def by_use(self) -> Sequence[tuple[str, Samples | None]]:
        """The parts by name, those first that say most of how a model does on new rows."""
        return (("test", self.test), ("validation", self.validation), ("train", self.train))

    @property
    def _parts(self) -> Sequence[Samples | None]:
        return (self.train, self.validation, self.test)


class Source(Protocol):
    """A module of `trainer.sources`: it names its kind and reads its format."""

    KIND: str
    Options: type[DataOptions]

    @staticmethod
    def detect(head: bytes, filename: str) -> bool:
        """Say whether a file that begins so (up to 4096 bytes) and is called so is of this kind."""

    @staticmethod
    def inspect(path: Path) -> DataProfile:
        """Describe the file's columns; an unreadable file raises InvalidDataError."""

    @staticmethod
    def read(options: Any, path: Path) -> Samples:  # noqa: ANN401  # the module's own Options
        """Read the columns the options name, in the file's order, floats as float32."""


def weights_of(column: str, values: np.ndarray) -> np.ndarray:
    """Return a column as the weights of its rows, float32 of shape (rows,).

    Raises:
        InvalidDataError: a row has several values or a negative one.
    """
    import numpy as np

    if values.ndim != 1:
        raise InvalidDataError(
            f"sample_weight {column!r} has rows of shape {values.shape[1:]}, each row needs one number",
            location={"column": column},
        )
    negative = np.flatnonzero(values < 0)
    if len(negative):
        row = int(negative[0]) + 1
        raise InvalidDataError(
            f"sample_weight {column!r}, row {row} is {values[row - 1]:g}, which is negative",
            location={"row": row, "column": column},
            remedy="A row that shall not count has weight 0.",
        )
    return values.astype(np.float32, copy=False)


@cache
def sources() -> dict[str, Source]:
    """Return every source by its kind."""
    found = discover("trainer.sources", "KIND", "Options", "detect", "inspect", "read")
    return {kind: cast("Source", module) for kind, module in found.items()}


def detect(path: Path, filename: str) -> str:
    """Return the kind of a file from its first bytes and its name.

    Raises:
        InvalidDataError: it is of no known kind.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    for kind, source in sources().items():
        if source.detect(head, filename):
            return kind
    raise InvalidDataError(
        f"{filename!r} is none of the data formats known: {', '.join(sources())}",
        remedy="Upload one of the known formats, under its usual file name ending.",
    )


def inspect(path: Path, kind: str) -> DataProfile:
    """Describe the columns of a file of that kind.

    Raises:
        InvalidDataError: the file isn't what its kind says.
    """
    return sources()[kind].inspect(path)


def load(options: DataOptions, path: Path, seed: int) -> Splits:
    """Read the file once and share its rows out; `seed` decides where the split names none.

    Raises:
        DataUnreachableError: the file can't be read.
        InvalidDataError: its content contradicts the options; `location` tells where, if it is one place.
    """
    import numpy as np

    if not path.is_file():
        raise DataUnreachableError(f"no data at {options.uri}")
    try:
        samples = sources()[options.kind].read(options, path)
        digest = _digest(path)
    except OSError as error:
        raise DataUnreachableError(f"{options.uri} can't be read: {error.strerror or error}") from error
    rows = len(samples)
    if rows == 0:
        raise InvalidDataError(f"{options.uri} has no rows")
    train, validation, test = np.arange(rows), None, None
    if options.split is not None:
        targets = list(samples.targets.values())
        train, validation, *rest = split(
            options.split,
            rows=rows,
            label=targets[0] if len(targets) == 1 else None,
            content=[*samples.features.values(), *targets],
            seed=seed,
        )
        test = rest[0] if rest else None
    elif options.validation_split is not None:
        # Keras's rule: the last part, before any shuffling.
        first = int(rows * (1 - options.validation_split))
        if first in {0, rows}:
            raise InvalidDataError(
                f"validation_split {options.validation_split} of {rows} rows leaves a part empty"
            )
        train, validation = train[:first], train[first:]
    whole = len(train) == rows
    return Splits(
        train=samples if whole else samples.take(train),
        validation=None if validation is None else samples.take(validation),
        test=None if test is None else samples.take(test),
        digest=digest,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
