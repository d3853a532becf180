"""A model that Keras knows by its class alone."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("fitserve-tests")
class Subclassed(keras.Model):
    """Two dense layers, of which no config says how they are joined."""

    def __init__(self, units: int, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.classes = units, classes
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.answer = keras.layers.Dense(classes, activation="softmax")

    def call(self, inputs: Any) -> Any:
        return self.answer(self.hidden(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "classes": self.classes}
