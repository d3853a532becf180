"""Texts, by Keras's TextVectorization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Limits
from pydantic import model_validator

from trainer.cells import gaps, refuse
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import Count
from trainer.table import Field

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

KIND = "text"


class Options(ColumnOptions):
    """A text in any language; the arguments are those of Keras's TextVectorization, under their names.

    A text cut into `int` indices needs an `output_sequence_length`, to which it is cut or filled with zeros.
    An empty text is a missing one.
    """

    kind: Literal["text"]
    max_tokens: Annotated[Count, Limits(ge=3, le=1_000_000)] = 20_000
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"] | None = (
        "lower_and_strip_punctuation"
    )
    split: Literal["whitespace", "character"] = "whitespace"
    ngrams: Annotated[Count, Limits(le=10)] | None = None
    output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "multi_hot"
    output_sequence_length: Annotated[Count, Limits(le=1 << 20)] | None = None
    missing: Literal["error", "empty"] = "empty"

    @model_validator(mode="after")
    def _indices_have_a_length(self) -> Options:
        if (self.output_mode == "int") != (self.output_sequence_length is not None):
            raise ValueError('output_mode "int" and output_sequence_length go together')
        return self

    def layer(self, **fitted: Any) -> keras.layers.TextVectorization:
        """Make Keras's layer."""
        import keras

        return keras.layers.TextVectorization(
            max_tokens=self.max_tokens,
            standardize=self.standardize,
            split=self.split,
            ngrams=self.ngrams,
            output_mode=self.output_mode,
            output_sequence_length=self.output_sequence_length,
            **fitted,
        )


def wire(options: Options, name: str, field: Field) -> Field:  # noqa: ARG001 - the contract of columns
    """Send it as it is."""
    if field.shape or field.dtype not in {"string", "date"}:
        raise InvalidDataError(
            f"column {name!r} holds {field.dtype} of shape {field.shape}, not texts",
            location={"column": name},
        )
    return Field("string")


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:
    """Return the texts, "" where one may be missing."""
    if options.missing == "error":
        refuse(name, values, first_row, gaps(values), "is empty")
    return values


class Fitter:
    """The words of the training rows, by Keras's own counting."""

    def __init__(self, options: Options, name: str) -> None:
        self._layer, self._name = options.layer(), name

    def see(self, values: np.ndarray) -> None:
        """Count the words."""
        import tensorflow as tf

        if len(values):
            self._layer.update_state(tf.constant(values, tf.string))

    def state(self) -> State:
        """Say the `vocabulary`, and the `idf_weights` for tf_idf."""
        lookup, vocabulary = self._layer._lookup_layer, []
        if int(lookup.token_counts.size()):  # of nothing Keras makes no tf_idf
            self._layer.finalize_state()
            vocabulary = list(self._layer.get_vocabulary(include_special_tokens=False))
        if not vocabulary:
            raise InvalidDataError(
                f"column {self._name!r} has no word in any training row",
                location={"column": self._name},
                remedy='Leave it out, or say "standardize": "lower" in data.columns to keep punctuation.',
            )
        weights = None
        if lookup.output_mode == "tf_idf":
            # The first is that of the unknown.
            weights = lookup.idf_weights.numpy()[1 : len(vocabulary) + 1].tolist()
        return {"vocabulary": vocabulary, "idf_weights": weights}


def fitter(options: Options, wire: Field, name: str) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Begin to learn of a column."""
    return Fitter(options, name)


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Vectorize."""
    import tensorflow as tf

    fitted = {"vocabulary": state["vocabulary"]}
    if state["idf_weights"] is not None:
        fitted["idf_weights"] = state["idf_weights"]
    layer = options.layer(**fitted)

    def apply(values: tf.Tensor) -> tf.Tensor:
        vector = layer(values)
        return vector if options.output_mode == "int" else tf.cast(vector, tf.float32)

    return Transform(apply, (layer,))
