"""What a run learnt of its data and chose for them, as a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trainer.column import ColumnOptions, column_kinds
from trainer.errors import SpecUnbuildableError

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

    def complete(self, given: Mapping[str, ColumnOptions]) -> dict[str, ColumnOptions]:
        """Return the options of all columns that were fitted; those that a spec gives must be the same.

        Raises:
            SpecUnbuildableError: the spec would prepare a column otherwise than the version's model knows it.
        """
        kinds = column_kinds()
        known = {
            name: kinds[each["kind"]].Options.model_validate(each) for name, each in self.options.items()
        }
        for name, options in given.items():
            if known.get(name, options) != options:
                raise SpecUnbuildableError(
                    f"the version was trained with {json.dumps(self.options[name])} for column {name!r}",
                    remedy="Leave the column out of data.columns: the version's own way is kept.",
                    location={"pointer": f"/data/columns/{name}"},
                )
        return {**given, **known}
