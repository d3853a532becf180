"""From the columns of a table or a request to a model's inputs; what was fitted is served with the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.cells import bad_cell, numbers, refuse_without_values
from trainer.column import ColumnKind, ColumnOptions, Fitter, State, Transform, column_kinds
from trainer.errors import InvalidDataError
from trainer.table import BYTES, Chunk, Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

Inputs = Mapping[str, Sequence[str]]
"""The columns of each input, in the order in which they stand side by side."""

_UNDECODED = "Mend the file, save it as a PNG or JPEG, or leave the row out."


@dataclass(frozen=True)
class Column:
    """A column and how it is prepared; `options` are None where the spec says nothing of it."""

    name: str
    field: Field
    options: ColumnOptions | None

    @property
    def kind(self) -> ColumnKind:
        """The implementation of its kind."""
        assert self.options is not None
        return column_kinds()[self.options.kind]

    @property
    def wire(self) -> Field:
        """Its form in a request; raises InvalidDataError if it can't be of its kind, or holds nothing."""
        refuse_without_values(self.name, self.field)
        if self.options is not None:
            return self.kind.wire(self.options, self.name, self.field)
        whole = self.field.is_integer and self.field.dtype != "bool"
        return Field(self.field.dtype if whole else "float32", self.field.shape)

    def read(self, values: np.ndarray, first_row: int) -> np.ndarray:
        """Return a table's values in the wire's form; `first_row` is the number of the first, from 1.

        Raises:
            InvalidDataError: one of them won't do.
        """
        if self.options is not None:
            return self.kind.read(self.options, self.name, values, first_row)
        return values if self.wire.is_integer else numbers(self.name, values, first_row)


class Preprocessing:
    """How columns become a model's inputs: side by side as they are, or each as its kind prepares it.

    Where the spec says nothing of any column `prepares` is false, and the model is served as it is.
    """

    def __init__(
        self,
        inputs: Inputs,
        options: Mapping[str, ColumnOptions],
        fields: Mapping[str, Field],
        fitted: Mapping[str, State] | None = None,
    ) -> None:
        """Match the inputs' columns with those that there are; `fitted` is what was learnt of them before.

        Raises:
            InvalidDataError: a column can't be of the kind that its options say.
        """
        self.inputs = {name: tuple(columns) for name, columns in inputs.items()}
        names = dict.fromkeys(name for columns in self.inputs.values() for name in columns)
        self.columns = {name: Column(name, fields[name], options.get(name)) for name in names}
        self.wire = {name: column.wire for name, column in self.columns.items()}
        self._kinds = {name: column for name, column in self.columns.items() if column.options is not None}
        self.fitted = None if fitted is None else dict(fitted)
        self._fitters: dict[str, Fitter] = {}
        if fitted is None:
            self._fitters = {
                name: column.kind.fitter(column.options, self.wire[name], name)
                for name, column in self._kinds.items()
            }
        self._transforms: dict[str, Transform] = {}

    @property
    def prepares(self) -> bool:
        """Whether requests' columns are prepared on their way into the model."""
        return bool(self._kinds)

    @property
    def needs_fitting(self) -> bool:
        """Whether training rows must be seen before any can be prepared."""
        return bool(self._fitters)

    def read(self, chunk: Chunk, first_row: int) -> Chunk:
        """Return the features' columns in the form in which requests send them."""
        return {name: column.read(chunk[name], first_row) for name, column in self.columns.items()}

    def see(self, wire: Chunk) -> None:
        """Learn from some training rows, which `read` gave."""
        for name, fitter in self._fitters.items():
            fitter.see(wire[name])

    def settle(self) -> None:
        """Keep what was learnt; from now on rows can be prepared."""
        if self.fitted is None:
            self.fitted = {name: fitter.state() for name, fitter in self._fitters.items()}
        self._fitters = {}

    def prepare(self, wire: Chunk, first_row: int = 1) -> dict[str, np.ndarray]:
        """Return the inputs by name, (rows, ...), for columns in the wire's form.

        Raises:
            InvalidDataError: a file in a column can't be decoded.
        """
        if not self.prepares:
            return {name: _side_by_side(columns, wire) for name, columns in self.inputs.items()}
        import tensorflow as tf

        try:
            prepared = self.function()({name: tf.constant(values) for name, values in wire.items()})
        except tf.errors.InvalidArgumentError as error:
            raise self._blamed(wire, first_row) or error from error
        return {name: tensor.numpy() for name, tensor in prepared.items()}

    def tensors(self, wire: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Do the same in TensorFlow: in a pipeline, or within what is served."""
        import tensorflow as tf

        with tf.device("CPU"):
            return {name: self._together(columns, wire) for name, columns in self.inputs.items()}

    def signature(self) -> list[tf.TensorSpec]:
        """Describe the columns that a request sends."""
        return [_spec(name, field) for name, field in self.wire.items()]

    def keeps(self) -> list[Any]:
        """Return the TensorFlow objects that `tensors` needs, for a SavedModel to keep."""
        return [each for transform in self._made().values() for each in transform.keeps]

    def named(self, names: Mapping[str, str]) -> Preprocessing:
        """Return the same under other names of the inputs."""
        other = copy.copy(self)
        other.inputs = {names.get(name, name): columns for name, columns in self.inputs.items()}
        other.__dict__.pop("_function", None)
        return other

    def function(self) -> Any:  # noqa: ANN401 - a function of TensorFlow, which has no types
        """Return `tensors` as a graph, traced once for any number of rows."""
        import tensorflow as tf

        if not hasattr(self, "_function"):
            self._made()  # outside of the graph, where it would be lost
            signature = dict(zip(self.wire, self.signature(), strict=True))
            as_written = tf.autograph.experimental.do_not_convert(self.tensors)
            self._function = tf.function(as_written, input_signature=[signature])
        return self._function

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON: `of` makes the same again, without a table."""
        assert self.fitted is not None
        return {
            "inputs": {name: list(columns) for name, columns in self.inputs.items()},
            "columns": {
                name: {
                    "dtype": column.field.dtype,
                    "shape": list(column.field.shape),
                    "options": None if column.options is None else column.options.model_dump(mode="json"),
                    "wire": {"dtype": self.wire[name].dtype, "shape": list(self.wire[name].shape)},
                    "fitted": self.fitted.get(name),
                }
                for name, column in self.columns.items()
            },
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Preprocessing:
        """Make again what `document` described."""
        columns = document["columns"]
        kinds = column_kinds()
        return cls(
            document["inputs"],
            {
                name: kinds[each["options"]["kind"]].Options.model_validate(each["options"])
                for name, each in columns.items()
                if each["options"] is not None
            },
            {name: Field(each["dtype"], tuple(each["shape"])) for name, each in columns.items()},
            {name: each["fitted"] for name, each in columns.items() if each["fitted"] is not None},
        )

    def _made(self) -> dict[str, Transform]:
        assert self.fitted is not None, "not fitted yet"
        for name, column in self._kinds.items():
            if name not in self._transforms:
                state = self.fitted[name]
                self._transforms[name] = column.kind.transform(column.options, self.wire[name], state, name)
        return self._transforms

    def _together(self, columns: Sequence[str], wire: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Put an input's columns side by side; whole numbers stay such where all of them are."""
        import tensorflow as tf

        made = self._made()
        pieces = [made[name].apply(wire[name]) if name in made else wire[name] for name in columns]
        pieces = [piece[:, tf.newaxis] if piece.shape.rank == 1 else piece for piece in pieces]
        if len(pieces) == 1:
            return pieces[0]
        for name, piece in zip(columns, pieces, strict=True):
            if piece.shape.rank != 2:
                raise _alone(name, piece.shape[1:])
        whole = all(piece.dtype.is_integer for piece in pieces)
        return tf.concat([tf.cast(piece, tf.int64 if whole else tf.float32) for piece in pieces], axis=1)

    def _blamed(self, wire: Chunk, first_row: int) -> InvalidDataError | None:
        """Find the file that can't be decoded."""
        import tensorflow as tf

        made = self._made()
        for name in (name for name, field in self.wire.items() if field.dtype == BYTES):
            for place in range(len(wire[name])):
                try:
                    made[name].apply(tf.constant(wire[name][place : place + 1]))
                except tf.errors.InvalidArgumentError:
                    what = "can't be decoded as an image"
                    return bad_cell(name, first_row + place, what, _UNDECODED)
        return None


def _spec(name: str, field: Field) -> tf.TensorSpec:
    import tensorflow as tf

    dtype = field.dtype if field.is_number else "string"
    return tf.TensorSpec((None, *field.shape), dtype, name=name)


def _side_by_side(columns: Sequence[str], wire: Chunk) -> np.ndarray:
    """Return one column as it is, a flat one as (rows, 1); several as float32 of shape (rows, values)."""
    import numpy as np

    if len(columns) == 1:
        values = wire[columns[0]]
        return values[:, np.newaxis] if values.ndim == 1 else values
    for name in columns:
        if wire[name].ndim > 2:
            raise _alone(name, wire[name].shape[1:])
    return np.column_stack([wire[name].astype(np.float32, copy=False) for name in columns])


def _alone(name: str, shape: Sequence[int]) -> InvalidDataError:
    return InvalidDataError(
        f"column {name!r} has rows of shape {tuple(shape)}: it can't stand beside others in one input",
        location={"column": name},
    )
