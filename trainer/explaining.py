"""What Keras and TensorFlow raise while a model is built and fitted, said in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.errors import InvalidDataError, OutOfMemoryError, SpecUnbuildableError

# What TensorFlow's two kernels of a lookup say: `indices[4] = 2 is not in [0, 2)`.
_OUTSIDE = re.compile(
    r"(?:value of|\] =) (-?\d+) (?:which is outside the valid range of|is not in) (\[\d+, ?\d+\))"
)


@contextmanager
def explained() -> Iterator[None]:
    """Say in our words what Keras and TensorFlow raise where model, loss and rows first meet."""
    import tensorflow as tf

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise OutOfMemoryError(_first_line(error) or "out of memory") from error
    except tf.errors.InvalidArgumentError as error:
        text = str(error)
        outside = _OUTSIDE.search(text)
        if outside:
            whose = "the label" if "crossentropy" in text else "an input"
            raise InvalidDataError(
                f"{whose} holds {outside[1]}, the model takes whole numbers in {outside[2]}",
                remedy="Count from 0, and give the layer (the last Dense, the Embedding) enough of them.",
            ) from error
        raise SpecUnbuildableError(_kernel_message(text)) from error
    except (ValueError, TypeError, tf.errors.UnimplementedError) as error:
        raise SpecUnbuildableError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _kernel_message(text: str) -> str:
    """Pick the kernel's own sentence out of a graph error, which begins with a Python stack."""
    lines = [line.strip() for line in text.splitlines()]
    said = [
        line
        for line in lines
        if line and not line.startswith(("File ", "Detected at", "Graph execution", "[["))
    ]
    return said[0] if said else _first_line(ValueError(text))
