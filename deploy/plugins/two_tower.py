"""Two towers: users and items as vectors whose dot product says how well they go together."""

from __future__ import annotations

from typing import Annotated, Any

import keras
from pydantic import BaseModel, Field

NAME = "two_tower"
INPUT_DTYPES = {"user": "int32", "item": "int32"}


class Arguments(BaseModel):
    """How many users and items there are, numbered from 0, and how long their vectors are."""

    users: Annotated[int, Field(ge=1, le=10_000_000)]
    items: Annotated[int, Field(ge=1, le=10_000_000)]
    units: Annotated[int, Field(ge=1, le=1024)] = 16


@keras.saving.register_keras_serializable(package="fitserve_plugins")
class TwoTower(keras.Model):
    """`user` and `item`, each (batch, 1), to the probability that they go together, (batch, 1)."""

    def __init__(self, users: int, items: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = (users, items, units)
        self.towers = {
            name: [keras.layers.Embedding(count, units), keras.layers.Dense(units, activation="relu")]
            for name, count in (("user", users), ("item", items))
        }
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def vector(self, name: str, ids: Any) -> Any:
        """Return the vectors of these ids, (batch, units)."""
        embedding, dense = self.towers[name]
        return dense(keras.ops.squeeze(embedding(ids), axis=1))

    def call(self, inputs: dict[str, Any]) -> Any:
        both = self.vector("user", inputs["user"]) * self.vector("item", inputs["item"])
        return self.head(keras.ops.sum(both, axis=-1, keepdims=True))

    def get_config(self) -> dict[str, Any]:
        users, items, units = self.sizes
        return {**super().get_config(), "users": users, "items": items, "units": units}


def build(users: int, items: int, units: int) -> keras.Model:
    """Return the model, to be compiled as the spec says."""
    return TwoTower(users, items, units)
