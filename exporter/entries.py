"""The `export` list of a job: which artifacts are asked for, as data.

`ExportEntry` is the type of one item in pydantic models: a union over the formats there are, told apart by
`format`. Read by the API process: nothing here imports TensorFlow.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model, model_validator

from exporter.errors import EntriesError, ExportFailedError
from exporter.format import AnyFormat, FormatOptions, Tolerance, formats, missing

SAVED_MODEL = "saved_model"
"""The format that every version is made of."""
RESERVED_NAMES = frozenset(
    {"weights", "manifest", "samples", "spec", "tf_serving_warmup_requests"}
    | {
        "architecture",
        "preprocessing",
        "model_card",
        "model_card_html",
        "curves",
        "csv_log",
        "judgement",
        "tensorboard",
    }
)
"""What else lies beside the artifacts in a version's `assets.extra`."""


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class Entry(BaseModel):
    """One artifact asked for; the options of its format are fields of the same object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="The artifact's name; by default the format and its variant, as in tflite-int8.",
        json_schema_extra=_without_default,
    )
    optional: bool = Field(
        default=False, description="Publish the version without this artifact if it can't be made or proven."
    )
    tolerance: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="The largest allowed |artifact - model| / max(1, |model|), in place of the format's own.",
    )

    @property
    def maker(self) -> AnyFormat:
        """The format that makes this artifact."""
        return formats()[self.format]

    @property
    def options(self) -> FormatOptions:
        """The choices that belong to the format."""
        options = self.maker.Options
        return options.model_validate({field: getattr(self, field) for field in options.model_fields})

    @property
    def allowed(self) -> Tolerance:
        """How equal is equal for this artifact."""
        return self.maker.tolerance(self.options) if self.tolerance is None else Tolerance(self.tolerance)

    @property
    def path(self) -> str:
        """Where the artifact lies in the version's folder."""
        return self.maker.PATH.format(name=self.name)

    @model_validator(mode="after")
    def _name_by_default(self) -> Self:
        if not self.name and self.format in formats():
            variant = self.options.variant()
            # Through object, as the entry is frozen for everyone else.
            object.__setattr__(self, "name", f"{self.format}-{variant}" if variant else self.format)
        return self


def _entry_type(format_: AnyFormat) -> type[Entry]:
    """Join what every entry has with what this format offers."""
    if taken := Entry.model_fields.keys() & format_.Options.model_fields.keys():
        raise TypeError(
            f"format {format_.NAME!r} offers an option named like an entry's own: {sorted(taken)}"
        )
    # Any: mypy can't see through a tuple of bases.
    bases: Any = (Entry, format_.Options)
    # Any: a Literal of a value known only now.
    literal: Any = Literal[format_.NAME]
    name = "".join(word.title() for word in format_.NAME.split("_")) + "ExportEntry"
    # Any: the mypy plugin types create_model by its own arguments, not by the bases.
    entry: Any = create_model(
        name, __base__=bases, __module__=__name__, __doc__=format_.__doc__, format=(literal, ...)
    )
    return cast(type[Entry], entry)


if TYPE_CHECKING:
    ExportEntry: TypeAlias = Entry
else:
    ExportEntry = Annotated[
        reduce(operator.or_, [_entry_type(each) for each in formats().values()]),
        Field(discriminator="format"),
    ]

_ENTRIES: TypeAdapter[tuple[Entry, ...]] = TypeAdapter(tuple[ExportEntry, ...])


def read_entries(data: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Check a list as it stands in a spec.

    Raises:
        pydantic.ValidationError: an unknown format (the message names the valid ones), option or value.
    """
    return _ENTRIES.validate_python(data)


def with_saved_model(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Put the SavedModel first, asked for or not: the other formats are made from it.

    Raises:
        EntriesError: two artifacts share a name, a name is reserved, or the SavedModel is optional or twice.
    """
    given = [entry for entry in entries if entry.format == SAVED_MODEL]
    if len(given) > 1:
        raise EntriesError("saved_model is listed twice; a version holds one")
    if given and given[0].optional:
        raise EntriesError("saved_model can't be optional: it is what a version is made of")
    others = [entry for entry in entries if entry.format != SAVED_MODEL]
    complete = (*(given or read_entries([{"format": SAVED_MODEL}])), *others)
    _refuse_clashes(complete)
    return complete


def further(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Accept what is to be added to a published version.

    Raises:
        EntriesError: two artifacts share a name, a name is reserved, or there is a SavedModel among them.
    """
    if any(entry.format == SAVED_MODEL for entry in entries):
        raise EntriesError("every version has its saved_model already; leave it out")
    _refuse_clashes(entries)
    return tuple(entries)


def refuse_infeasible(entries: Sequence[Entry]) -> None:
    """Refuse exports that can't be made here, before anything is computed for them.

    Raises:
        ExportFailedError: what an entry's format requires isn't installed; the message names it.
    """
    for entry in entries:
        if lacking := missing(entry.maker):
            raise ExportFailedError(
                entry.name, f"the format {entry.format} can't be made here without {'; '.join(lacking)}"
            )


def _refuse_clashes(entries: Sequence[Entry]) -> None:
    for name, times in Counter(entry.name for entry in entries).items():
        if times > 1:
            raise EntriesError(f"{times} exports are named {name!r}; give each its own `name`")
        if name in RESERVED_NAMES:
            raise EntriesError(f"{name!r} is taken by the version itself; choose another `name`")
