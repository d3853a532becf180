"""Images in files (JPEG, PNG, BMP, GIF), decoded and brought to one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field as Limits

from trainer.cells import gaps, refuse
from trainer.column import ColumnOptions, State, Transform
from trainer.errors import InvalidDataError
from trainer.forms import Count, Flag
from trainer.table import BYTES, Field

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

KIND = "image"
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
_CMYK = 4  # how many components such a JPEG has
Side = Annotated[Count, Limits(le=4096)]


class Options(ColumnOptions):
    """A file's bytes, which become uint8 of shape (height, width, channels), from 0 to 255.

    The arguments are those of Keras's image_dataset_from_directory, under their names. Scaling is the
    model's: put a Rescaling layer first.
    """

    kind: Literal["image"]
    image_size: tuple[Side, Side]
    color_mode: Literal["grayscale", "rgb", "rgba"] = "rgb"
    interpolation: Literal["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5"] = "bilinear"
    crop_to_aspect_ratio: Flag = False


def wire(options: Options, name: str, field: Field) -> Field:  # noqa: ARG001 - the contract of columns
    """Send the file as it is; as JSON, in base64."""
    if field != Field(BYTES):
        raise InvalidDataError(
            f"column {name!r} holds {field.dtype} of shape {field.shape}, not the bytes of image files",
            remedy="Arrays of pixels need no entry in data.columns.",
            location={"column": name},
        )
    return field


def read(options: Options, name: str, values: np.ndarray, first_row: int) -> np.ndarray:  # noqa: ARG001
    """Return the files' bytes."""
    refuse(name, values, first_row, gaps(values), "is empty")
    return values


class Fitter:
    """Nothing is learnt of an image."""

    def see(self, values: np.ndarray) -> None:
        """Pass over it."""

    def state(self) -> State:
        """Say nothing."""
        return {}


def fitter(options: Options, wire: Field, name: str) -> Fitter:  # noqa: ARG001 - the contract of columns
    """Learn nothing."""
    return Fitter()


def transform(options: Options, wire: Field, state: State, name: str) -> Transform:  # noqa: ARG001
    """Decode each and resize it: what differs in size can't be handled together."""
    import tensorflow as tf

    height, width = options.image_size
    channels = _CHANNELS[options.color_mode]

    def decoded(file: tf.Tensor) -> tf.Tensor:
        image = _decoded(file, channels)
        if options.crop_to_aspect_ratio:
            image = _cropped(image, height, width)
        image = tf.image.resize(image, (height, width), method=options.interpolation)
        return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)

    def apply(values: tf.Tensor) -> tf.Tensor:
        signature = tf.TensorSpec((height, width, channels), tf.uint8)
        return tf.map_fn(decoded, values, fn_output_signature=signature)

    return Transform(apply)


def _decoded(file: tf.Tensor, channels: int) -> tf.Tensor:
    """Return the pixels, uint8 (height, width, channels); of an animation those of its first picture."""
    import tensorflow as tf

    def decode(channels: int) -> tf.Tensor:
        image = tf.io.decode_image(file, channels=channels, expand_animations=False)
        image.set_shape((None, None, channels))
        return image

    def from_rgb() -> tf.Tensor:
        rgb = decode(_CHANNELS["rgb"])
        if channels == _CHANNELS["grayscale"]:
            return tf.image.rgb_to_grayscale(rgb)
        return tf.pad(rgb, [[0, 0], [0, 0], [0, 1]], constant_values=255)  # opaque

    if channels == _CHANNELS["rgb"]:
        return decode(channels)
    return tf.cond(_gives(file, channels), lambda: decode(channels), from_rgb)


def _gives(file: tf.Tensor, channels: int) -> tf.Tensor:
    """Say whether TensorFlow's decoder of the file's format has these channels, bool ().

    None has a JPEG's or a GIF's alpha, nor the gray of a BMP, a GIF or a JPEG for print (CMYK). All give RGB.
    """
    import tensorflow as tf

    png = tf.strings.substr(file, 0, 4) == b"\x89PNG"
    if channels == _CHANNELS["rgba"]:
        return png | (tf.strings.substr(file, 0, 2) == b"BM")
    jpeg = tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff"
    return png | tf.cond(jpeg, lambda: tf.io.extract_jpeg_shape(file)[2] != _CMYK, lambda: False)


def _cropped(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Cut the middle out, as large as can be of the sides' relation."""
    import tensorflow as tf

    size = tf.shape(image)
    tall, wide = size[0], size[1]
    keep_tall = tf.minimum(tall, tf.maximum(1, wide * height // width))
    keep_wide = tf.minimum(wide, tf.maximum(1, tall * width // height))
    return tf.image.crop_to_bounding_box(
        image, (tall - keep_tall) // 2, (wide - keep_wide) // 2, keep_tall, keep_wide
    )
