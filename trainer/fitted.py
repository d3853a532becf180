"""What a run learnt of its data and chose for them, as a document."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from trainer.column import ColumnOptions, column_kinds
from trainer.errors import SpecUnbuildableError
from trainer.targets import CATEGORY

if TYPE_CHECKING:
    from trainer.architecture import Base, ModelOptions

Kept: TypeAlias = Literal["memory", "disk", "unprepared"]
"""Where a run keeps its rows: prepared, in memory or on disk; or as they are, to be prepared by batch."""


@dataclass(frozen=True)
class Fitted:
    """What the columns taught, for an attempt that goes on and for those who use the version; JSON.

    `options` are the spec's `data.columns`, `columns` what was learnt of each, `classes` the names of the
    classes of labels that are categories. An attempt that goes on also keeps its rows where they were `kept`,
    and shuffles as many `buffer_bytes` of those on disk together.
    """

    options: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Any]
    classes: Mapping[str, Any]
    kept: Kept = "memory"
    buffer_bytes: int = 0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Fitted:
        """Read what `to_json` wrote."""
        return cls(**document)

    # Any: a JSON document.
    def to_json(self) -> dict[str, Any]:
        """Write it as a document."""
        return asdict(self)

    @classmethod
    def read(cls, file: Path) -> Fitted | None:
        """Return what an earlier attempt wrote, if one did."""
        return cls.of(json.loads(file.read_text())) if file.exists() else None

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".new")
        written.write_text(json.dumps(self.to_json()))
        written.replace(file)

    def learnt(
        self, features: Collection[str], labels: Collection[str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return `columns` and `classes` of these columns alone."""
        return (
            {name: state for name, state in self.columns.items() if name in features},
            {name: classes for name, classes in self.classes.items() if name in labels},
        )

    def complete(
        self, given: Mapping[str, ColumnOptions], features: Collection[str], labels: Collection[str]
    ) -> dict[str, ColumnOptions]:
        """Return the options that a spec gives, and those by which its features and labels were fitted.

        Raises:
            SpecUnbuildableError: the spec would prepare a column otherwise than the version's model knows it.
        """
        kinds = column_kinds()
        known = {
            name: kinds[options["kind"]].Options.model_validate(options)
            for name, options in self.options.items()
            if (name in self.columns if name in features else name in labels)
        }
        for name, options in given.items():
            if name in (self.columns if name in features else self.classes):
                if known.get(name, options) != options:
                    raise _otherwise(
                        name,
                        f"the version was trained with {json.dumps(self.options[name])} for column {name!r}",
                        "Leave the column out of data.columns: the version's own way is kept.",
                    )
            elif name in features:
                raise _otherwise(
                    name,
                    f"the version doesn't prepare column {name!r}; it prepares {_listed(self.columns)}",
                    "Leave it out of data.columns, so that the model takes it as it is, or call it as the "
                    "version does.",
                )
            elif name in labels and self.classes and _learns_classes(options):
                raise _otherwise(
                    name,
                    f"the version knows the classes of {_listed(self.classes)}, not of {name!r}",
                    "Call the label as the version does, list its vocabulary, or give the model a new head.",
                )
        return {**known, **given}


def known_to(base: Base | None, model: ModelOptions) -> Fitted | None:
    """Return what a version was fitted with for a model that starts from it: a new head learns its labels."""
    fitted = base.fitted if base else None
    if fitted is None or getattr(model, "head", None) is None:
        return fitted
    return replace(fitted, classes={})


def _learns_classes(options: ColumnOptions) -> bool:
    return options.kind == CATEGORY and getattr(options, "vocabulary", None) is None


def _otherwise(name: str, detail: str, remedy: str) -> SpecUnbuildableError:
    return SpecUnbuildableError(detail, remedy=remedy, location={"pointer": f"/data/columns/{name}"})


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
