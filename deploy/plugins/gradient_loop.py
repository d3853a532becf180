"""A training step written by hand with GradientTape: gradients clipped by their global norm.

The loop around it, with progress, checkpoints, validation and cancel, is the trainer's.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import keras
import tensorflow as tf
from pydantic import BaseModel, Field

NAME = "gradient_loop"
LARGEST_NORM = 1.0

log = logging.getLogger(__name__)


class Arguments(BaseModel):
    """Sizes."""

    units: Annotated[int, Field(ge=1, le=4096)] = 16
    classes: Annotated[int, Field(ge=2, le=10_000)] = 2


def callbacks(model: keras.Model) -> list[keras.callbacks.Callback]:
    """Return what a spec can't say: a line in the job's log after each epoch."""

    def tell(epoch: int, logs: dict[str, Any]) -> None:
        said = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        log.info("%s, epoch %d: %s", model.name, epoch + 1, said)

    return [keras.callbacks.LambdaCallback(on_epoch_end=tell)]


def build(units: int, classes: int) -> keras.Model:
    """Return a plain network, to be compiled as the spec says; `step` trains it."""
    return keras.Sequential(
        [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(classes, activation="softmax")]
    )


def step(model: keras.Model, data: Any) -> dict[str, Any]:
    """Train on one batch (features, targets[, weights]) and return the metrics."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        answer = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=answer, sample_weight=weights)
    gradients, norm = tf.clip_by_global_norm(tape.gradient(loss, model.trainable_weights), LARGEST_NORM)
    # Surgery: a batch whose gradient is not finite changes nothing.
    gradients = [tf.where(tf.math.is_finite(norm), each, tf.zeros_like(each)) for each in gradients]
    model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    model._loss_tracker.update_state(loss)
    return model.compute_metrics(x, y, answer, sample_weight=weights)
