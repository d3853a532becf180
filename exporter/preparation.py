"""What makes the columns of a request into a model's inputs, within what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorflow as tf

CORE = "core"
"""The signature of the model alone, where requests' columns are prepared before they reach it."""


class Preparation(Protocol):
    """Columns to inputs, in TensorFlow."""

    def signature(self) -> list[tf.TensorSpec]:
        """Describe the columns that a request sends, each under its name."""

    def tensors(self, wire: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Return the model's inputs by name for columns by name."""

    def keeps(self) -> list[Any]:
        """Return the TensorFlow objects (tables, layers) that `tensors` needs."""
