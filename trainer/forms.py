"""How a spec's parts are validated: frozen data, every fault told at once, each at its exact place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

Loc = tuple[str | int, ...]

Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a spec: where, seen from the value that is being checked, and what."""

    loc: Loc
    detail: str
    kind: str = "spec"


class SpecModel(BaseModel):
    """A part of a spec: frozen; a field it doesn't have is refused with the nearest one it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Fields users may expect here, and why they are not ours.
    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest_field(cls, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:  # noqa: ANN401
        lacking = list(cls.lacking(value)) if isinstance(value, Mapping) else []
        try:
            made = handler(value)
        except ValidationError as error:
            raise invalid(cls.__name__, [*map(cls._explained, faults_of(error)), *lacking], value) from None
        if lacking:
            raise invalid(cls.__name__, lacking, value)
        return made

    @classmethod
    def lacking(cls, value: Mapping[str, Any]) -> Iterable[Fault]:  # noqa: ARG003 - for those who override it
        """Tell what a value should have besides, because of what else it has."""
        return ()

    @classmethod
    def _explained(cls, fault: Fault) -> Fault:
        name = fault.loc[-1] if fault.loc else ""
        if fault.kind != "extra_forbidden" or len(fault.loc) != 1 or not isinstance(name, str):
            return fault
        if name in cls.refused:
            return Fault(fault.loc, cls.refused[name])
        # Another kind than `extra_forbidden`: what is explained once isn't explained again further out.
        return Fault(fault.loc, f"unknown field {name!r}{nearest(name, cls.model_fields)}", "unknown_field")


def invalid(title: str, faults: Iterable[Fault], value: object) -> ValidationError:
    """Make one error of all faults; raised inside a validator, pydantic prefixes each with its own place."""
    return ValidationError.from_exception_data(
        title,
        [
            # The message goes in as context: braces in it are then no template.
            InitErrorDetails(
                type=PydanticCustomError(fault.kind, "{detail}", {"detail": fault.detail}),
                loc=fault.loc,
                input=value,
            )
            for fault in faults
        ],
    )


def faults_of(error: ValidationError, at: Loc = ()) -> list[Fault]:
    """Return the faults in a validation error, each place prefixed with `at`."""
    return [
        Fault((*at, *details["loc"]), details["msg"].removeprefix("Value error, "), details["type"])
        for details in error.errors(include_url=False, include_input=False)
    ]


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or the valid names where none is near and they are few."""
    known = sorted(valid)
    folded = {candidate.casefold().replace("_", ""): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold().replace("_", ""), folded, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; valid: {', '.join(known)}" if 0 < len(known) <= 20 else ""


def at_least(count: int) -> AfterValidator:
    """Require so many items; unlike pydantic's min_length, items that failed already count as well."""

    def validate(value: Sized) -> Sized:
        if len(value) < count:
            raise PydanticCustomError(
                "too_short", "{detail}", {"detail": f"needs at least {count}, has {len(value)}"}
            )
        return value

    return AfterValidator(validate)


def one_message(message: str) -> WrapValidator:
    """Say one sentence for a union, in place of pydantic's one complaint for each of its members."""

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # pydantic's own signature
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("form", "{detail}", {"detail": message}) from None

    return WrapValidator(validate)


@dataclass(frozen=True, eq=False)  # compared by identity, so that a union may hold it
class ByKind:
    """Chooses the model for a value by its `kind`, without pydantic's tag in the place of a fault.

    The JSON schema is that of pydantic's discriminated union, so API documents show every kind.
    """

    noun: str
    kinds: Mapping[str, type[SpecModel]]

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        union = core_schema.tagged_union_schema(
            {kind: handler.generate_schema(model) for kind, model in self.kinds.items()}, discriminator="kind"
        )
        return core_schema.no_info_wrap_validator_function(self._validate, union)

    def _validate(self, value: Any, handler: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        if isinstance(value, BaseModel):
            return handler(value)
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "kind",
                "{detail}",
                {"detail": f"expected an object with a `kind`; valid kinds: {self._names}"},
            )
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in self.kinds:
            detail = (
                f"missing; valid kinds: {self._names}"
                if kind is None
                else f"unknown {self.noun} kind {kind!r}{nearest(str(kind), self.kinds)}"
            )
            raise invalid(self.noun, [Fault(("kind",), detail, "missing" if kind is None else "kind")], value)
        return self.kinds[kind].model_validate(value)

    @property
    def _names(self) -> str:
        return ", ".join(sorted(self.kinds))
