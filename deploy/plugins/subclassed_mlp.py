"""A subclassed MLP whose forward pass depends on a flag: what Sequential and Functional can't say."""

from __future__ import annotations

from typing import Annotated, Any

import keras
from pydantic import BaseModel, Field

NAME = "subclassed_mlp"


class Arguments(BaseModel):
    """Sizes of the hidden layers and of the output."""

    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (64, 32)
    classes: Annotated[int, Field(ge=2, le=10_000)] = 10
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3


@keras.saving.register_keras_serializable(package="fitserve_plugins")
class SubclassedMLP(keras.Model):
    """Dense layers with dropout in between, while it trains."""

    def __init__(self, hidden: list[int], classes: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = (list(hidden), classes, dropout)
        # Made in the order of the forward pass, each draws the seed that it would in a Sequential.
        self.blocks, self.dropouts = [], []
        for units in hidden:
            self.blocks.append(keras.layers.Dense(units, activation="relu"))
            self.dropouts.append(keras.layers.Dropout(dropout))
        self.head = keras.layers.Dense(classes, activation="softmax")

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = inputs
        for dense, dropout in zip(self.blocks, self.dropouts, strict=True):
            x = dense(x)
            if training:
                x = dropout(x, training=True)
        return self.head(x)

    def get_config(self) -> dict[str, Any]:
        hidden, classes, dropout = self.sizes
        return {**super().get_config(), "hidden": hidden, "classes": classes, "dropout": dropout}


def build(hidden: tuple[int, ...], classes: int, dropout: float) -> keras.Model:
    """Return the model, to be compiled as the spec says."""
    return SubclassedMLP(list(hidden), classes, dropout)
