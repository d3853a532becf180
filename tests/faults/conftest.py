from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet
from tests.faults.run import home
from tests.faults.scene import SLOW_STEP_S, Scene
from tests.faults.wallclock import WallClock, compile_wallclock


@pytest.fixture
def scene(fleet_of_module: Scene) -> Iterator[Scene]:
    """The module's fleet, in which nobody is held when a test is over."""
    yield fleet_of_module
    fleet_of_module.let_go()


@pytest.fixture(scope="module")
def fleet_of_module(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A fleet of two workers, which the tests of a module share; on `DATABASE` of the module."""
    with home(None) as folder:
        witnessed = {
            "PYTHON_FAULTS_HOLDS": str(folder / "holds"),
            "PYTHON_FAULTS_SLOW_STEP_S": str(SLOW_STEP_S),
            **getattr(request.module, "VARIABLES", {}),
        }
        database = getattr(request.module, "DATABASE", "sqlite")
        fleet = Fleet(folder, random.Random(1), database, witnessed=witnessed, crew=2)
        scene = Scene(fleet)
        try:
            scene.begin()
            yield scene
        finally:
            left = fleet.stop()
        assert left == []


@pytest.fixture(scope="session")
def wallclock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_wallclock(tmp_path_factory.mktemp("wallclock"))


@pytest.fixture
def clock(scene: Scene, wallclock_library: Path) -> WallClock:
    return WallClock(scene, wallclock_library)
