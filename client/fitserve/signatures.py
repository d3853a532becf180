"""What a served model takes and gives, and whether what we hold fits it before a byte is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from numpy.typing import ArrayLike

from fitserve import rows, tensors
from fitserve._protos.serving_pb2 import SignatureDef, SignatureDefMap
from fitserve.errors import InvalidInputError
from fitserve.tensors import Array

Inputs = ArrayLike | Mapping[str, ArrayLike] | rows.Rows


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` has None where the size is free, and is None where even the rank is."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        shape = "any" if self.shape is None else "(" + ", ".join(str(size) for size in self.shape) + ")"
        return f"{self.name}: {self.dtype} {shape}"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape fits."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """A named function of a served model."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    optional: frozenset[str]  # inputs that have a default in the model
    method: str

    @classmethod
    def of(cls, name: str, proto: SignatureDef) -> Self:
        """Read a SignatureDef."""
        return cls(
            name=name,
            inputs=_specs(proto.inputs),
            outputs=_specs(proto.outputs),
            optional=frozenset(proto.defaults),
            method=proto.method_name,
        )

    def __str__(self) -> str:
        takes = "; ".join(str(spec) for spec in self.inputs.values())
        gives = "; ".join(str(spec) for spec in self.outputs.values())
        return f"{self.name}({takes}) -> {gives}"

    def convert(self, inputs: Inputs) -> dict[str, Array]:
        """Give each input the name, dtype and shape that the model wants.

        A bare array is the one input of a signature that has one. A column of single values also fits an
        input of shape (None, 1).

        Raises:
            InvalidInputError: names are unknown or missing, or values don't fit; all of it is told.
        """
        given = self._by_name(inputs)
        problems = [self._unknown(name) for name in given if name not in self.inputs]
        problems += [
            f"missing input {spec}"
            for name, spec in self.inputs.items()
            if name not in given and name not in self.optional
        ]
        arrays: dict[str, Array] = {}
        for name, value in given.items():
            if name not in self.inputs:
                continue
            spec = self.inputs[name]
            try:
                array = tensors.to_array(value, spec.dtype)
            except InvalidInputError as error:
                problems.append(f"input {name!r}: {error}")
                continue
            if array.ndim == 1 and spec.shape is not None and spec.shape[1:] == (1,):
                array = array[:, None]
            if not spec.accepts(array.shape):
                problems.append(f"input {name!r}: the model wants {spec}. Received: shape {array.shape}")
            arrays[name] = array
        if problems:
            raise InvalidInputError(f"{'; '.join(problems)} (signature {self})")
        return arrays

    def check_outputs(self, names: list[str]) -> None:
        """Refuse output names that the signature doesn't have.

        Raises:
            InvalidInputError: with the names there are.
        """
        unknown = [name for name in names if name not in self.outputs]
        if unknown:
            raise InvalidInputError(
                f"no output named {', '.join(unknown)}; the outputs are {', '.join(self.outputs)}"
            )

    def _by_name(self, inputs: Inputs) -> Mapping[str, Any]:  # Any: whatever numpy takes as an array
        if isinstance(inputs, Mapping):
            return inputs
        required = [name for name in self.inputs if name not in self.optional]
        if rows.are_rows(inputs):
            return rows.columns_of(inputs, required)
        wanted = required or list(self.inputs)
        if len(wanted) != 1:
            raise InvalidInputError(
                f"give a mapping of names to arrays: there are several (signature {self})"
            )
        return {wanted[0]: inputs}

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self.inputs, n=1)
        return f"unknown input {name!r}" + (f", did you mean {near[0]!r}?" if near else "")


@dataclass(frozen=True)
class ModelMetadata:
    """The signatures of one version of a served model."""

    model: str
    version: int | None
    signatures: Mapping[str, Signature]

    @classmethod
    def of(cls, model: str, version: int | None, packed: bytes) -> Self:
        """Read the bytes of a SignatureDefMap, without TensorFlow's own signatures, which begin with `__`."""
        found = SignatureDefMap.FromString(packed)
        return cls(
            model=model,
            version=version,
            signatures={
                name: Signature.of(name, found.signature_def[name])
                for name in sorted(found.signature_def)
                if not name.startswith("__")
            },
        )

    def signature(self, name: str = "serving_default") -> Signature:
        """Return a signature by name.

        Raises:
            InvalidInputError: there is none, with the names there are.
        """
        try:
            return self.signatures[name]
        except KeyError:
            known = ", ".join(self.signatures) or "none"
            raise InvalidInputError(f"model {self.model} has no signature {name!r}; it has {known}") from None


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:  # Any: generated TensorInfo messages
    return {
        name: TensorSpec(
            name=name,
            dtype=tensors.dtype_name(infos[name].dtype),
            shape=None
            if infos[name].tensor_shape.unknown_rank
            else tuple(dim.size if dim.size >= 0 else None for dim in infos[name].tensor_shape.dim),
        )
        for name in sorted(infos)
    }
