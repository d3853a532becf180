"""What a served model answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fitserve.errors import InvalidInputError
from fitserve.tensors import Array


class Prediction(Mapping[str, Array]):
    """The outputs by name, with the model and the version that gave them."""

    def __init__(self, outputs: Mapping[str, Array], model: str, version: int | None, signature: str) -> None:
        self._outputs = dict(outputs)
        self.model = model
        self.version = version
        self.signature = signature

    def __getitem__(self, name: str) -> Array:
        try:
            return self._outputs[name]
        except KeyError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self._outputs)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in self._outputs.items())
        return f"Prediction({self.model} version {self.version}; {shapes})"

    @property
    def output(self) -> Array:
        """The one output.

        Raises:
            InvalidInputError: there are several; take them by name.
        """
        if len(self._outputs) != 1:
            raise InvalidInputError(
                f"there are several outputs, take one by name: {', '.join(self._outputs)}"
            )
        return next(iter(self._outputs.values()))
