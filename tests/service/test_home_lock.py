from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.home_lock import HomeInUseError, HomeLock


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "home" / "run").mkdir(parents=True)
    return tmp_path / "home" / "run" / "lock"


def test_a_lock_is_held_by_one_and_names_it(place: Path) -> None:
    first, second = HomeLock(place), HomeLock(place)
    first.take()
    with pytest.raises(HomeInUseError, match=rf"home is in use .*\(pid {os.getpid()}\)"):
        second.take()
    assert first.held
    assert not second.held
    first.release()


def test_a_lock_that_was_given_back_is_free(place: Path) -> None:
    first, second = HomeLock(place), HomeLock(place)
    first.take()
    first.release()
    first.release()
    second.take()
    assert second.held
    second.release()


def test_a_lock_whose_holder_was_killed_is_free(place: Path) -> None:
    child = os.fork()
    if child == 0:
        HomeLock(place).take()
        os._exit(0)  # as a kill would: nothing is given back
    os.waitpid(child, 0)
    lock = HomeLock(place)
    lock.take()
    assert place.read_text() == f"{os.getpid()}\n"
    lock.release()
