"""A table in a Parquet file, read through polars; and text files turned into one, once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import InvalidDataError
from trainer.table import BYTES, DATE, OTHER, STRING, Chunk, Field, chunk_rows

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


class FrameTable:
    """The columns of a Parquet file or a frame; `origin` is what an error calls it."""

    def __init__(
        self,
        source: Path | pl.LazyFrame,
        origin: str = "the file",
        as_texts: Callable[[Sequence[str]], Path] | None = None,
    ) -> None:
        """Read the schema, and count the rows and what is missing in each column.

        `as_texts` gives the same rows with these columns as texts, where a file says nothing of types.

        Raises:
            InvalidDataError: it is no Parquet file, or damaged.
        """
        import polars as pl

        self._origin, self._as_texts = origin, as_texts
        # polars reads ahead by row groups, as many as it has threads: one is enough to keep us busy, and a
        # third of the memory.
        os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "1")
        try:
            self._scan = pl.scan_parquet(source, glob=False) if isinstance(source, Path) else source
            schema = self._scan.collect_schema()
            counted = self._scan.select(pl.len().alias("/rows"), pl.all().null_count()).collect().row(0)
            self.rows: int = counted[0]
            self._columns: dict[str, tuple[Field, pl.Expr]] = {
                name: self._column(name, dtype, nulls)
                for (name, dtype), nulls in zip(schema.items(), counted[1:], strict=True)
            }
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error
        self.fields = {name: field for name, (field, _) in self._columns.items()}
        size_bytes = source.stat().st_size if isinstance(source, Path) else 0
        self._row_bytes = size_bytes // max(1, self.rows)

    def with_texts(self, names: Sequence[str]) -> FrameTable:
        """Return the same rows with these columns as texts, as far as the file leaves that open.

        Those of a CSV file or of JSON lines may be numbers by chance, and what is all missing is anything.
        """
        import polars as pl

        if self._as_texts is not None:
            return FrameTable(self._as_texts(sorted(names)), self._origin, self._as_texts)
        schema = self._scan.collect_schema()
        void = [named(name).cast(pl.String) for name in names if schema[name] == pl.Null]
        return FrameTable(self._scan.with_columns(void), self._origin) if void else self

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield the columns as numpy arrays."""
        import polars as pl

        size = chunk_rows(self.fields, names, self._row_bytes)
        wanted = list(dict.fromkeys(names))
        forms = [self._columns[name][1] for name in wanted]
        # Expressions stay out of what is streamed: with them it runs ahead of a slow reader by 300 MB.
        frames = self._scan.select(map(named, wanted)).collect_batches(chunk_size=size, maintain_order=True)
        done = 0
        try:
            for read in _even(frames, size):
                frame = read.select(forms)
                yield {name: self._values(frame[name], done) for name in frame.columns}
                done += frame.height
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._damaged(error) from error

    def _column(  # noqa: PLR0911 - one line for each of polars's types
        self, name: str, dtype: pl.DataType, nulls: int
    ) -> tuple[Field, pl.Expr]:
        """Say what a column holds, and how it becomes what a table promises."""
        import polars as pl

        column = named(name)
        if dtype.is_integer() or dtype == pl.Boolean:
            if nulls or dtype in {pl.Int128, pl.UInt128}:
                return Field("float64"), column.cast(pl.Float64).fill_null(float("nan"))
            return Field("bool" if dtype == pl.Boolean else str(dtype).lower()), column
        if dtype.is_float() or dtype.is_decimal() or dtype == pl.Null:
            wide = pl.Float32 if dtype in {pl.Float32, pl.Null} else pl.Float64
            return Field(str(wide).lower()), column.cast(wide).fill_null(float("nan"))
        if dtype == pl.Date:
            return Field(DATE), column.dt.to_string("%Y-%m-%d").fill_null("")
        if isinstance(dtype, pl.Datetime):
            utc = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
            return Field(DATE), utc.dt.to_string("%Y-%m-%dT%H:%M:%S").fill_null("")
        if dtype == pl.Duration:
            return Field("float64"), (column.dt.total_microseconds() / 1e6).fill_null(float("nan"))
        if dtype == pl.Binary:
            return Field(BYTES), column.fill_null(b"")
        if isinstance(dtype, pl.Array) and _innermost(dtype).is_numeric():
            one = _float_of(_innermost(dtype))
            return Field(str(one).lower(), dtype.shape), column.cast(pl.Array(one, dtype.shape))
        if isinstance(dtype, pl.List) and dtype.inner.is_numeric():
            one = _float_of(dtype.inner)
            first = self._scan.select(column.drop_nulls().list.len()).head(1).collect()
            width = first.item() if first.height else 0
            return Field(str(one).lower(), (width,)), column.cast(pl.List(one))
        if isinstance(dtype, pl.List | pl.Struct | pl.Array | pl.Object):
            return Field(OTHER), column
        return Field(STRING), column.cast(pl.String).fill_null("")

    def _values(self, column: pl.Series, before: int) -> np.ndarray:
        import numpy as np
        import polars as pl

        name = column.name
        field = self.fields[name]
        if field.dtype == OTHER:
            raise InvalidDataError(
                f"column {name!r} holds {column.dtype}: a cell is a number, text, date or list of numbers",
                location={"column": name},
            )
        if not isinstance(column.dtype, pl.List | pl.Array):
            values: np.ndarray = column.to_numpy()
            return values
        self._refuse_ragged(column, before)
        # A row without a list misses all of its numbers.
        rows = np.full((len(column), *field.shape), np.nan, field.dtype)
        there = column.is_not_null().to_numpy()
        listed = column.drop_nulls()
        if rows.size and len(listed):
            flat = listed.explode() if isinstance(column.dtype, pl.List) else listed.reshape((-1,))
            rows[there] = flat.to_numpy().reshape(-1, *field.shape)
        return rows

    def _refuse_ragged(self, column: pl.Series, before: int) -> None:
        """Tell the first row that has another number of values than the first list of all."""
        import polars as pl

        if isinstance(column.dtype, pl.Array):
            return
        width = self.fields[column.name].shape[0]
        bad = (column.list.len() != width).fill_null(value=False)
        if bad.any():
            row = before + int(bad.arg_max() or 0) + 1
            raise InvalidDataError(
                f"column {column.name!r}, row {row} is no list of {width} numbers as the first one",
                location={"row": row, "column": column.name},
            )

    def _damaged(self, error: Exception) -> InvalidDataError:
        return InvalidDataError(f"{self._origin} is no readable Parquet: {str(error).splitlines()[0]}")


def named(name: str) -> pl.Expr:
    """Return the column of that very name: `polars.col` reads * and ^...$ as patterns."""
    import polars.selectors

    return polars.selectors.by_name(name).as_expr()


def kept_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Have `write` make the file `target` unless it is there; it appears whole or not at all."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def write_parquet(
    target: Path,
    frames: Iterable[pl.DataFrame],
    schema: Mapping[str, object],
    *,
    group_rows: int | None = None,
) -> None:
    """Write frames of this schema as they come; what their maker raises is raised here.

    `group_rows` is how many rows a reader takes in at once, 2**18 unless told: fewer where rows are large.
    """
    from polars.io.plugins import register_io_source

    def give(*_: object) -> Iterator[pl.DataFrame]:
        yield from frames

    scan = register_io_source(give, schema=dict(schema))
    scan.sink_parquet(
        target, compression="lz4", maintain_order=True, row_group_size=group_rows, engine="streaming"
    )


def _even(frames: Iterator[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """Cut frames of any height into frames of `size` rows: what is summed up by chunk comes out the same."""
    import polars as pl

    held: list[pl.DataFrame] = []
    height = 0
    for frame in frames:
        held.append(frame)
        height += frame.height
        if height < size:
            continue
        whole = pl.concat(held) if len(held) > 1 else held[0]
        cut = height - height % size
        yield from whole.head(cut).iter_slices(size)
        held, height = [whole.tail(height - cut)] if cut < height else [], height - cut
    if held:
        yield pl.concat(held)


def _innermost(dtype: pl.Array) -> pl.DataType:
    inner = dtype.inner
    return _innermost(inner) if hasattr(inner, "inner") else inner


def _float_of(dtype: pl.DataType) -> pl.DataType:
    """Return what holds a list's numbers and gaps: float32, unless they are whole and may be too large."""
    import polars as pl

    wide = dtype.is_integer() and dtype not in {pl.Int8, pl.UInt8, pl.Int16, pl.UInt16}
    held: pl.DataType = pl.Float64() if wide else pl.Float32()
    return held
