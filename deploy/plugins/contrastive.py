"""Contrastive learning: two noisy views of a row attract each other, those of other rows repel (NT-Xent)."""

from __future__ import annotations

from typing import Annotated, Any

import keras
import tensorflow as tf
from pydantic import BaseModel, Field

NAME = "contrastive"


class Arguments(BaseModel):
    """Sizes, the noise of a view, and the temperature of the similarities."""

    units: Annotated[int, Field(ge=1, le=4096)] = 32
    noise: Annotated[float, Field(gt=0)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.2


@keras.saving.register_keras_serializable(package="fitserve_plugins")
class Contrastive(keras.Model):
    """Rows (batch, features) to unit vectors (batch, units)."""

    def __init__(self, units: int, noise: float, temperature: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = (units, noise, temperature)
        self.encoder = keras.Sequential(
            [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(units)]
        )
        self.unit = keras.layers.UnitNormalization()
        self.views = [keras.layers.GaussianNoise(noise, seed=seed) for seed in (1, 2)]
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.loss_tracker]

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.unit(self.encoder(inputs, training=training))

    def nt_xent(self, rows: Any, training: bool) -> Any:
        """Return the loss of Chen et al., "A Simple Framework for Contrastive Learning" (2020), eq. 1."""
        first, second = (self(view(rows, training=True), training=training) for view in self.views)
        vectors = tf.concat([first, second], axis=0)
        similarity = tf.matmul(vectors, vectors, transpose_b=True) / self.sizes[2]
        count = tf.shape(rows)[0]
        similarity -= 1e9 * tf.eye(2 * count)  # a view is not compared with itself
        partner = tf.concat([tf.range(count, 2 * count), tf.range(count)], axis=0)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=partner, logits=similarity)
        )

    def train_step(self, data: Any) -> dict[str, Any]:
        rows, *_ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.nt_xent(rows, training=True)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        rows, *_ = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_tracker.update_state(self.nt_xent(rows, training=False))
        return {"loss": self.loss_tracker.result()}

    def get_config(self) -> dict[str, Any]:
        units, noise, temperature = self.sizes
        return {**super().get_config(), "units": units, "noise": noise, "temperature": temperature}


def build(units: int, noise: float, temperature: float) -> keras.Model:
    """Return the model; the spec's optimizer trains it, its loss is its own."""
    return Contrastive(units, noise, temperature)
