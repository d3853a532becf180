"""The versions that models start from: known when a job is submitted, read where it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from exporter.weights import PATH as WEIGHTS
from service.errors import Fault
from trainer.architecture import PLUGIN, VERSION, Base
from trainer.architectures.version import LAST
from trainer.errors import SpecUnbuildableError
from trainer.fitted import Fitted

if TYPE_CHECKING:  # the child reads versions too, and knows no database
    from service.jobs import Job
    from service.records.versions import PublishedVersion, VersionRecords
    from serving.store import Store

REQUIRED = "this field is required"
ARTIFACT = "architecture"
FILE = PurePath("assets.extra/model.json")
"""The model section of a published version that names no other version (`trainer.architecture.recorded`)."""
FITTED = PurePath("assets.extra/preprocessing.json")
"""How the version's training prepared columns (`trainer.fitted.Fitted`)."""


def resolved(body: Mapping[str, Any], versions: VersionRecords) -> tuple[Mapping[str, Any], list[Fault]]:
    """The body, with the number of the version that its model starts from; and what is wrong with that."""
    model = body.get("model")
    if not isinstance(model, Mapping) or model.get("kind") != VERSION:
        return body, []
    name, number = model.get("name"), model.get("version")
    if not isinstance(name, str) or not (number is None or _is_number(number)):
        return body, []  # the form of the section tells
    published = versions.get(name, number) if number is not None else versions.latest(name)
    if published is None:
        return body, [_unknown(name, number, versions)]
    artifact = next((each for each in published.manifest["artifacts"] if each["name"] == ARTIFACT), None)
    if artifact is None:
        detail = f"version {published.number} of {name} keeps no record of its layers: train it again"
        return body, [Fault("/model/version", detail)]
    return {**body, "model": {**model, "version": published.number}}, list(_lacking(body, artifact))


def base_folder(job: Job, store: Store) -> dict[str, str]:
    """For the child's order: where the version lies that the job's model starts from, if it names one."""
    model = job.spec.get("model", {})
    if model.get("kind") != VERSION:
        return {}
    return {"base": str(store.folder(model["name"], model["version"]))}


def read_base(folder: Path) -> Base:
    """Read what a version's folder says of its model.

    Raises:
        SpecUnbuildableError: the folder isn't there any more.
    """
    try:
        section = json.loads((folder / FILE).read_text())
    except FileNotFoundError as error:
        raise SpecUnbuildableError(
            f"version {folder.name} of {folder.parent.name} has been removed",
            remedy="Start from a version that is there.",
            location={"pointer": "/model/version"},
        ) from error
    return Base.of(section, folder / WEIGHTS, Fitted.read(Path(folder / FITTED)))


def base_of(details: Mapping[str, Any]) -> Base | None:
    """Read the base that `base_folder` put into the order, if it did."""
    return read_base(Path(details["base"])) if "base" in details else None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LAST


def _unknown(name: str, number: int | None, versions: VersionRecords) -> Fault:
    there: list[PublishedVersion] = versions.of_model(name)
    if not there:
        return Fault("/model/name", f"there is no model {name!r} with a published version")
    numbers = ", ".join(str(version.number) for version in there)
    return Fault("/model/version", f"{name} has the versions {numbers}. Received: {number}")


def _lacking(body: Mapping[str, Any], artifact: Mapping[str, Any]) -> list[Fault]:
    """What a spec may leave out only where a plugin built the version."""
    if "data" not in body or artifact["options"].get("kind") == PLUGIN:
        return []
    how, data = body.get("compile"), body["data"]
    faults = []
    if how is None:
        faults.append(Fault("/compile", REQUIRED))
    elif isinstance(how, Mapping) and how.get("loss") is None:
        faults.append(Fault("/compile/loss", REQUIRED))
    if isinstance(data, Mapping) and data.get("label") is None:
        faults.append(Fault("/data/label", REQUIRED))
    return faults
