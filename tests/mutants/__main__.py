"""`python -m tests.mutants`: take out one guard after the other, and show the test that fails without it.

The product is copied to a temporary folder, where one guard at a time is taken out and its test is run. A
guard whose test still passes is a promise that nobody watches; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.mutants.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")
TEST_WITHIN_S = 60
"""Without its guard a test may wait for ever, which is a failure as well."""


def main() -> int:
    """Run every guard, or those whose name contains a word of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="take out only guards whose name contains one of these")
    asked = parser.parse_args()
    guards = [each for each in GUARDS if not asked.words or any(word in each.name for word in asked.words)]
    with tempfile.TemporaryDirectory(prefix="fitserve-mutants-") as folder:
        copy = Path(folder) / "fitserve"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        whole = _run(copy, *sorted({guard.test for guard in guards}))
        if whole.returncode != 0:
            _say(whole.stdout)
            _say("the tests fail with every guard in its place, so they tell nothing")
            return 1
        _say(f"with every guard in its place, all {len({guard.test for guard in guards})} tests pass")
        missed = [guard for guard in guards if not _is_missed(guard, copy)]
    for guard in missed:
        _say(f"NOBODY MISSES {guard.name} ({guard.file})")
    _say(f"{len(guards) - len(missed)} of {len(guards)} guards are missed by their tests when they are gone")
    return 1 if missed else 0


def _is_missed(guard: Guard, copy: Path) -> bool:
    """Whether the guard's test fails without it."""
    file = copy / guard.file
    whole = file.read_text()
    if whole.count(guard.text) != 1:
        _say(f"{guard.name}: its text is not in {guard.file} exactly once")
        return False
    began = time.monotonic()
    file.write_text(whole.replace(guard.text, guard.without))
    try:
        ran = _run(copy, guard.test)
    finally:
        file.write_text(whole)
        _end_leftovers(copy)
    failed = re.findall(r"^FAILED (\S+)", ran.stdout, re.MULTILINE)
    # An error in the file itself (1 test failed to be collected: code 2) shows nothing about the guard.
    missed = ran.returncode == 1 and bool(failed)
    told = failed[0] if missed else f"nothing failed (pytest ended with {ran.returncode})"
    _say(f"without {guard.name}: {told} ({time.monotonic() - began:.0f} s)")
    return missed


def _run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"--timeout={TEST_WITHIN_S}",
        *tests,
    ]
    return subprocess.run(
        command,
        cwd=copy,
        # What the tests start as a process of its own is the copy's, too.
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "client")])},
        capture_output=True,
        text=True,
        check=False,
    )


def _end_leftovers(copy: Path) -> None:
    """End what outlived its test: without its guard a child may do that."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PYTHONPATH", "").startswith(str(copy)):
                process.kill()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
