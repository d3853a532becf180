"""Signatures beside `serving_default` that TensorFlow Serving's users know: classify, regress, image_bytes.

Each takes one tensor of strings, makes of it what `serving_default` takes, and asks that. The first two are
those of TensorFlow Serving's calls Classify and Regress, with the names and the `method_name` of
tensorflow/python/saved_model/signature_constants.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, get_args

import numpy as np

from exporter import examples
from exporter.errors import ExportFailedError
from exporter.formats.saved_model import SignatureName

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    from exporter.endpoint import Endpoint
    from exporter.format import Arrays

PREDICT = "tensorflow/serving/predict"
CHANNELS = (1, 3, 4)
"""Of images: grayscale, RGB, and RGB with opacity."""
_BRIGHTEST = 255
_NO_CLASSES = frozenset(
    {
        "cosine_similarity",
        "huber",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
    }
)
"""Keras's losses of regressions, by the names of their functions."""


class FurtherSignature(Protocol):
    """What each of these signatures can do; `INPUT` is the name of its one tensor, string (rows,)."""

    METHOD: ClassVar[str]
    INPUT: ClassVar[str]

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Look at the model; raises ExportFailedError if the signature isn't for such a one."""

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, sent: Any) -> dict[str, Any]:  # noqa: ANN401
        """Answer: the function traced into the signature."""

    def carried(self, columns: Arrays) -> Arrays:
        """Return the rows of `serving_default` as this signature's input can hold them.

        What doesn't change is the same object. Raises ExportFailedError where it can't hold them at all.
        """

    def sent(self, columns: Arrays) -> npt.NDArray[Any]:
        """Write such rows as the input: bytes, of shape (rows,)."""

    def expected(self, answers: Arrays) -> Arrays:
        """Say in numpy what the signature must answer, given the model's own answers."""


def further_signatures(
    endpoint: Endpoint, names: Sequence[SignatureName]
) -> Mapping[SignatureName, FurtherSignature]:
    """Make the signatures asked for, by name.

    Raises:
        ExportFailedError: one of them isn't for such a model; the message says for which it is.
    """
    return {name: _SIGNATURES[name].of(endpoint) for name in names}


@dataclass(frozen=True, eq=False)
class _OfExamples:
    """What takes serialized `tf.Example`s, whose features are the columns of `serving_default`."""

    INPUT: ClassVar[str] = "inputs"

    endpoint: Endpoint

    # Any: symbolic tensors while TensorFlow traces.
    def _answer(self, serialized: Any) -> Any:  # noqa: ANN401
        columns = examples.parse(serialized, self.endpoint.request_specs(), gaps=self._gaps)
        (answer,) = self.endpoint.serve_request(*columns).values()
        return answer

    def carried(self, columns: Arrays) -> Arrays:
        """Return float64 as float32 holds it."""
        return examples.carried(columns)

    def sent(self, columns: Arrays) -> npt.NDArray[Any]:
        """Write each row as an Example."""
        return examples.serialize(columns, gaps=self._gaps)

    @property
    def _gaps(self) -> bool:
        """A column that is prepared may say that it has no value; the model's own input can't."""
        return self.endpoint.preparation is not None


@dataclass(frozen=True, eq=False)
class Classify(_OfExamples):
    """Names of the classes and a score of each: `classes` string (rows, k), `scores` float32 (rows, k).

    Where the model's loss says that it answers with logits, the scores are their softmax or sigmoid. A single
    unit is the probability of the second of two classes.
    """

    METHOD: ClassVar[str] = "tensorflow/serving/classify"

    names: tuple[str, ...]
    units: int
    logits: Literal["softmax", "sigmoid"] | None

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Take a model of one output that is known to be no regression."""
        units = _units(endpoint, "classify", "one output, of a score for each class")
        _check_columns(endpoint, "classify")
        loss, takes_logits = _loss(endpoint.model)
        if loss in _NO_CLASSES:
            raise _refused("classify", f"is for classes, and the model's loss is {loss}; leave it out")
        classes, known = max(units, 2), endpoint.class_names or ()
        if len(known) > classes:
            raise _refused("classify", f"the label has {len(known)} classes, the output {classes} scores")
        # A class's number is its place; units beyond the label's classes have no other name.
        names = (*known, *(str(number) for number in range(len(known), classes)))
        activation: Literal["softmax", "sigmoid"] = "sigmoid" if loss.startswith("binary_") else "softmax"
        return cls(endpoint, names, units, activation if takes_logits else None)

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, sent: Any) -> dict[str, Any]:  # noqa: ANN401
        """Name the classes of each row, and score them."""
        import tensorflow as tf

        scores = tf.cast(tf.reshape(self._answer(sent), (-1, self.units)), tf.float32)
        if self.logits is not None:
            scores = tf.nn.softmax(scores) if self.logits == "softmax" else tf.sigmoid(scores)
        if self.units == 1:
            scores = tf.concat([1 - scores, scores], axis=1)
        return {"classes": tf.tile(tf.constant([self.names]), (tf.shape(scores)[0], 1)), "scores": scores}

    def expected(self, answers: Arrays) -> Arrays:
        """Do the same in numpy; raises ExportFailedError where a single unit gives no probability."""
        (answer,) = answers.values()
        scores = answer.reshape(-1, self.units).astype(np.float64)
        if self.logits == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        elif self.logits == "sigmoid":
            scores = np.exp(-np.logaddexp(0, -scores))
        if self.units == 1:
            _refuse_improbable(scores)
            scores = np.hstack([1 - scores, scores])
        return {"classes": np.array([self.names] * len(scores)), "scores": scores.astype(np.float32)}


@dataclass(frozen=True, eq=False)
class Regress(_OfExamples):
    """The model's one number: `outputs` float32 (rows,)."""

    METHOD: ClassVar[str] = "tensorflow/serving/regress"

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Take a model of one output of one number."""
        wanted = "one output, of one number"
        if (units := _units(endpoint, "regress", wanted)) != 1:
            raise _refused("regress", f"is for a model with {wanted}; this one's has {units}")
        _check_columns(endpoint, "regress")
        return cls(endpoint)

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, sent: Any) -> dict[str, Any]:  # noqa: ANN401
        """Give each row's number."""
        import tensorflow as tf

        return {"outputs": tf.cast(tf.reshape(self._answer(sent), (-1,)), tf.float32)}

    def expected(self, answers: Arrays) -> Arrays:
        """Do the same in numpy."""
        (answer,) = answers.values()
        return {"outputs": answer.reshape(-1).astype(np.float32)}


@dataclass(frozen=True, eq=False)
class ImageBytes:
    """The answers of `serving_default` to encoded images (JPEG, PNG, BMP, GIF) of any size.

    They become pixels from 0 to 255 of the input's height, width and channels.
    """

    METHOD: ClassVar[str] = PREDICT
    INPUT: ClassVar[str] = "image_bytes"

    endpoint: Endpoint
    spec: tf.TensorSpec

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Take a model of one input that is an image."""
        import tensorflow as tf

        wanted = "is for a model with one image input of shape (height, width, 1, 3 or 4 channels)"
        specs = endpoint.request_specs()
        shapes = ", ".join(f"{spec.name} {spec.dtype.name} {tuple(spec.shape[1:])}" for spec in specs)
        if len(specs) != 1:
            raise _refused("image_bytes", f"{wanted}; this one takes {shapes}")
        (spec,) = specs
        if spec.dtype == tf.string:
            raise _refused("image_bytes", f"serving_default takes strings already: {shapes}; leave it out")
        fits = spec.shape.rank == 4 and spec.shape[1:].is_fully_defined() and spec.shape[3] in CHANNELS
        if not fits or not (spec.dtype.is_floating or spec.dtype.is_integer) or spec.dtype.max < _BRIGHTEST:
            raise _refused("image_bytes", f"{wanted}; this one takes {shapes}")
        if endpoint.decode_images is None:
            raise _refused("image_bytes", "needs `decode_images`, and the export was given none")
        return cls(endpoint, spec)

    # Any: symbolic tensors while TensorFlow traces.
    def serve(self, sent: Any) -> dict[str, Any]:  # noqa: ANN401
        """Decode the images and have them answered."""
        import tensorflow as tf

        assert self.endpoint.decode_images is not None
        with tf.device("CPU"):
            pixels = self.endpoint.decode_images(sent, *self.spec.shape[1:])
        return self.endpoint.serve_request(tf.cast(pixels, self.spec.dtype))

    def carried(self, columns: Arrays) -> Arrays:
        """Return the pixels as whole numbers; raises ExportFailedError where they aren't from 0 to 255."""
        ((name, array),) = columns.items()
        low, high = array.min(), array.max()
        whole = array if array.dtype.kind in "iu" else np.rint(array)
        exact = np.array_equal(whole, array)
        within = low >= 0 and high <= _BRIGHTEST  # which NaN isn't
        if not within or (high <= 1 and not exact):
            raise _refused(
                "image_bytes",
                f"gives the model pixels from 0 to {_BRIGHTEST}, and the data's go from {low:g} to {high:g}; "
                f"train on pixels from 0 to {_BRIGHTEST} and scale them in the model, by a Rescaling layer",
            )
        return {name: array if exact else whole}

    def sent(self, columns: Arrays) -> npt.NDArray[Any]:
        """Write each row as a PNG."""
        import tensorflow as tf

        (array,) = columns.values()
        written = np.empty(len(array), object)
        # PNG, as it loses nothing.
        written[:] = [tf.io.encode_png(image.astype(np.uint8)).numpy() for image in array]
        return written

    def expected(self, answers: Arrays) -> Arrays:
        """Take the answers as they are."""
        return answers


_SIGNATURES: Mapping[SignatureName, type[FurtherSignature]] = MappingProxyType(
    {"classify": Classify, "regress": Regress, "image_bytes": ImageBytes}
)
assert set(_SIGNATURES) == set(get_args(SignatureName))


def _units(endpoint: Endpoint, name: SignatureName, wanted: str) -> int:
    """Return how many numbers the one output has a row."""
    outputs = endpoint.output_specs
    told = ", ".join(f"{key} {spec.dtype.name} {tuple(spec.shape[1:])}" for key, spec in outputs.items())
    (spec, *others) = outputs.values()
    number = spec.dtype.is_floating or spec.dtype.is_integer
    if others or not number or spec.shape.rank not in {1, 2} or not spec.shape[1:].is_fully_defined():
        raise _refused(name, f"is for a model with {wanted}; this one gives {told}")
    return 1 if spec.shape.rank == 1 else int(spec.shape[1])


def _check_columns(endpoint: Endpoint, name: SignatureName) -> None:
    try:
        examples.check(endpoint.request_specs())
    except ValueError as error:
        raise _refused(name, f"takes tf.Examples: {error}") from error


def _loss(model: keras.Model) -> tuple[str, bool]:
    """Name the loss as Keras names its function, "" where it isn't known, and say whether it takes logits."""
    import keras

    given = [loss for loss in keras.tree.flatten(getattr(model, "loss", None)) if loss is not None]
    if len(given) != 1:
        return "", False
    loss = keras.losses.get(given[0]) if isinstance(given[0], str) else given[0]
    name = str(getattr(getattr(loss, "fn", loss), "__name__", ""))
    return name, isinstance(loss, keras.Loss) and bool(loss.get_config().get("from_logits"))


def _refuse_improbable(scores: npt.NDArray[np.float64]) -> None:
    # Of NaN neither is true: that is for parity to tell.
    if scores.min() < 0 or scores.max() > 1:
        raise _refused(
            "classify",
            f"needs a probability of a single unit, and it gives {scores.min():g} to {scores.max():g}; "
            "end the model in a sigmoid, or say from_logits in its loss",
        )


def _refused(name: SignatureName, why: str) -> ExportFailedError:
    return ExportFailedError("saved_model", f"signature {name!r} {why}")
