"""Wall clocks that a test steps under running processes: `wallclock.c`, built and preloaded."""

from __future__ import annotations

import shutil
import signal
import struct
import subprocess
from pathlib import Path

from tests.faults.scene import Scene


class WallClock:
    """The wall clocks of some processes of a fleet, which a test can step while they run."""

    def __init__(self, scene: Scene, library: Path) -> None:
        self._scene = scene
        self._library = library

    def take(self, *names: str) -> None:
        """Start these again with a clock of their own, which their children share."""
        ships = [self._scene.fleet.ships[name] for name in names]
        for name, ship in zip(names, ships, strict=True):
            self._file(name).write_bytes(struct.pack("<q", 0))
            ship.variables = clock_variables(self._library, self._file(name))
            self._scene.strike(signal.SIGTERM, ship.pid)
        before = {ship.line.name: ship.starts for ship in ships}
        fleet = self._scene.fleet
        self._scene.until(lambda: all(ship.starts > before[ship.line.name] for ship in ships))
        self._scene.until(fleet.ready)

    def step(self, seconds: int, *names: str) -> None:
        """From now on their wall clocks are off by so many seconds."""
        for name in names:
            with self._file(name).open("r+b") as file:
                file.write(struct.pack("<q", seconds))

    def _file(self, name: str) -> Path:
        return self._scene.fleet.home / f"wallclock-{name}"


def clock_variables(library: Path, file: Path) -> dict[str, str]:
    """What a process is started with so that its wall clock, and its children's, follow the file."""
    return {"PYTHON_FAULTS_PRELOAD": str(library), "PYTHON_FAULTS_WALLCLOCK": str(file)}


def compile_wallclock(folder: Path) -> Path:
    """Build the library; any C compiler will do."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, (
        "the wall clock of a running process is stepped by a small C library: install a C compiler"
    )
    library = folder / "wallclock.so"
    source = Path(__file__).with_name("wallclock.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True
    )
    return library
