from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.stack import example
from tests.topics.classroom import Classroom, Outcome


@pytest.fixture(scope="session")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    """One stack for all examples that train on one device."""
    room = Classroom(tmp_path_factory.mktemp("one"), slots="cpu")
    yield room
    room.close()


@pytest.fixture(scope="session")
def room_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    """A stack whose slot has two devices."""
    room = Classroom(tmp_path_factory.mktemp("two"), slots="cpu*2")
    yield room
    room.close()


@pytest.fixture
def room_for(request: pytest.FixtureRequest) -> Callable[[str], Classroom]:
    """The stack that has the devices an example asks for."""

    def find(which: str) -> Classroom:
        mirrored = example(which).get("resources", {}).get("strategy") == "mirrored"
        return request.getfixturevalue("room_of_two" if mirrored else "classroom")

    return find


@pytest.fixture
def trained(room_for: Callable[[str], Classroom]) -> Callable[[str], Outcome]:
    """What came of an example, trained at most once."""
    return lambda which: room_for(which).trained(which)
