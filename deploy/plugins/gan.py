"""A GAN: two networks, two optimizers, a `train_step` of its own; it answers with the critic's score."""

from __future__ import annotations

from typing import Annotated, Any

import keras
import tensorflow as tf
from pydantic import BaseModel, Field

NAME = "gan"


class Arguments(BaseModel):
    """Sizes, and the rates of the two optimizers."""

    features: Annotated[int, Field(ge=1, le=100_000)]
    latent: Annotated[int, Field(ge=1, le=4096)] = 8
    units: Annotated[int, Field(ge=1, le=4096)] = 32
    generator_rate: Annotated[float, Field(gt=0)] = 1e-3
    critic_rate: Annotated[float, Field(gt=0)] = 1e-3


@keras.saving.register_keras_serializable(package="fitserve_plugins")
class GAN(keras.Model):
    """Rows (batch, features) to the probability that they are real, (batch, 1)."""

    def __init__(self, features: int, latent: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = (features, latent, units)
        self.generator = keras.Sequential(
            [
                keras.Input((latent,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(features),
            ]
        )
        self.critic = keras.Sequential(
            [
                keras.Input((features,)),
                keras.layers.Dense(units, activation="leaky_relu"),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        self.noise = keras.random.SeedGenerator(seed=0)  # part of the model's state, and so of a checkpoint
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def compile(self, generator_optimizer: Any, critic_optimizer: Any, **kwargs: Any) -> None:
        super().compile(optimizer=critic_optimizer, **kwargs)
        self.generator_optimizer = generator_optimizer
        self.bce = keras.losses.BinaryCrossentropy()

    @property
    def metrics(self) -> list[Any]:
        return [self.loss_tracker, self.generator_loss]

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.critic(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        real, *_ = keras.utils.unpack_x_y_sample_weight(data)
        rows = tf.shape(real)[0]
        ones, zeros = tf.ones((rows, 1)), tf.zeros((rows, 1))
        _, latent, _ = self.sizes
        noise = keras.random.normal((rows, latent), seed=self.noise)
        with tf.GradientTape() as critic_tape, tf.GradientTape() as generator_tape:
            fake = self.generator(noise, training=True)
            judged_real, judged_fake = self.critic(real, training=True), self.critic(fake, training=True)
            critic_loss = self.bce(ones, judged_real) + self.bce(zeros, judged_fake)
            generator_loss = self.bce(ones, judged_fake)
        for tape, loss, network, optimizer in (
            (critic_tape, critic_loss, self.critic, self.optimizer),
            (generator_tape, generator_loss, self.generator, self.generator_optimizer),
        ):
            gradients = tape.gradient(loss, network.trainable_weights)
            optimizer.apply_gradients(zip(gradients, network.trainable_weights, strict=True))
        self.loss_tracker.update_state(critic_loss)
        self.generator_loss.update_state(generator_loss)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data: Any) -> dict[str, Any]:
        real, *_ = keras.utils.unpack_x_y_sample_weight(data)
        self.loss_tracker.update_state(self.bce(tf.ones((tf.shape(real)[0], 1)), self.critic(real)))
        return {"loss": self.loss_tracker.result()}

    def get_config(self) -> dict[str, Any]:
        features, latent, units = self.sizes
        return {**super().get_config(), "features": features, "latent": latent, "units": units}


def build(features: int, latent: int, units: int, generator_rate: float, critic_rate: float) -> keras.Model:
    """Return the model, compiled: a spec has no words for two optimizers."""
    model = GAN(features, latent, units)
    model.compile(keras.optimizers.Adam(generator_rate), keras.optimizers.Adam(critic_rate))
    return model
