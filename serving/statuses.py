"""What GetModelStatus tells: the states of versions, in one process and over all that share a port."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from serving.errors import Code, RequestError


class State(IntEnum):
    """Where a version stands; the numbers are those of GetModelStatus."""

    START = 10  # known, not begun
    LOADING = 20  # being loaded and warmed
    AVAILABLE = 30  # answers requests
    UNLOADING = 40  # takes no new request, finishes those it has
    END = 50  # gone, or failed to load: then `error` says why


@dataclass(frozen=True)
class VersionStatus:
    """What is told of one version; `code` is the kind of `error`, which is empty unless the load failed."""

    number: int
    state: State
    error: str = ""
    code: Code | None = None


# By model, names ascending; of each the versions, newest first.
Statuses = Mapping[str, Sequence[VersionStatus]]


def select(statuses: Statuses, model: str, number: int | None = None) -> list[VersionStatus]:
    """Return the versions of a model, or the one of that number.

    Raises:
        RequestError: NOT_FOUND, when there is none, or not that one.
    """
    found = [each for each in statuses.get(model, ()) if number is None or each.number == number]
    if not found:
        which = "any versions" if number is None else f"version {number}"
        raise RequestError(Code.NOT_FOUND, f"Could not find {which} of model {model}")
    return found


def merged(processes: Sequence[Statuses]) -> Statuses:
    """Return what can be said of all processes together.

    A version is AVAILABLE when every process has it. Otherwise it failed (END, with the first error) if it
    failed in one, is START or LOADING if one has yet to load it, and UNLOADING if one has let go of it.
    """
    names = sorted({name for statuses in processes for name in statuses})
    return {name: _merged_model([statuses.get(name, ()) for statuses in processes]) for name in names}


def to_json(statuses: Statuses) -> dict[str, Any]:
    """Return a JSON object, to tell it to another process."""
    return {
        name: [[each.number, int(each.state), each.error, each.code] for each in versions]
        for name, versions in statuses.items()
    }


def from_json(document: Mapping[str, Any]) -> Statuses:
    """Read what `to_json` wrote."""
    return {
        name: [
            VersionStatus(number, State(state), error, Code(code) if code else None)
            for number, state, error, code in versions
        ]
        for name, versions in document.items()
    }


def _merged_model(processes: Sequence[Sequence[VersionStatus]]) -> list[VersionStatus]:
    by_number: list[dict[int, VersionStatus]] = [{each.number: each for each in told} for told in processes]
    numbers = sorted({number for told in by_number for number in told}, reverse=True)
    return [_merged_version(number, [told.get(number) for told in by_number]) for number in numbers]


def _merged_version(number: int, told: Sequence[VersionStatus | None]) -> VersionStatus:
    known = [each for each in told if each is not None]
    failed = next((each for each in known if each.error), None)
    if failed is not None:
        return failed
    state = _behind({each.state for each in known})
    # Who has never heard of a version that others take up has yet to begin with it.
    if len(known) < len(told) and state in {State.LOADING, State.AVAILABLE}:
        state = State.START
    return VersionStatus(number, state)


def _behind(states: Iterable[State]) -> State:
    found = set(states)
    if len(found) == 1:
        return found.pop()
    coming = found & {State.START, State.LOADING}
    return min(coming) if coming else State.UNLOADING
