"""Keras's Random... layers as a step of the pipeline: what they draw depends on the batch alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.errors import SpecUnbuildableError
from trainer.forms import Fault, invalid
from trainer.objects import completed, object_faults, size_faults

if TYPE_CHECKING:
    import tensorflow as tf


def random_layer(value: dict[str, Any]) -> dict[str, Any]:
    """Check a layer of a spec: one of Keras's own, and a random one.

    Raises:
        ValidationError: it isn't, with each fault at its place.
    """
    faults = size_faults(value) or list(object_faults(value, "layers"))
    name = str(value.get("class_name"))
    if not faults and not name.startswith("Random"):
        faults = [
            Fault(
                ("class_name",),
                f"{name} is not random: put it into the model, so that serving does the same; "
                "augmentation takes Keras's Random... layers",
            )
        ]
    if faults:
        raise invalid("augment", faults, value)
    return value


class Augmentation:
    """A Keras Random... layer whose every draw comes from the batch's seed instead of a state of its own.

    A state would be advanced by parallel maps in no fixed order, and ahead of the step that is being trained.
    """

    def __init__(self, config: Mapping[str, Any], pointer: str) -> None:
        import keras
        import tensorflow as tf

        class BatchSeed(keras.random.SeedGenerator):  # type: ignore[misc]  # Keras has no types
            seed: tf.Tensor
            draws = 0

            def next(self, ordered: bool = True) -> tf.Tensor:  # noqa: ARG002  # Keras's signature
                self.draws += 1
                return tf.stack([self.seed, self.draws])

        try:
            self._layer = keras.layers.deserialize(completed(config))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise SpecUnbuildableError(str(error), location={"pointer": pointer}) from error
        self._seeds = []
        for i, layer in enumerate(self._layer._flatten_layers()):
            if hasattr(layer, "generator"):
                layer.generator = BatchSeed(i)
                self._seeds.append((i, layer.generator))
        self._pointer = pointer

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Alter the images of the batch with this seed."""
        import tensorflow as tf

        for place, generator in self._seeds:
            # Two layers with the same batch seed must not move in step.
            generator.seed = tf.bitwise.bitwise_xor(
                seed, zlib.crc32(f"{self._pointer}/{place}".encode()) >> 1
            )
            generator.draws = 0
        return self._layer(images, training=True)
