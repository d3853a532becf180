"""How much memory some work takes at its highest."""

import re
import subprocess
import sys
from pathlib import Path


def grew_bytes(before, work, *arguments):
    """Run two pieces of Python, and return how far resident memory rose while the second ran.

    In a process of its own: what others have taken and given back would hide the peak.
    """
    script = f"from tests.trainer.peak import resident\n{before}\nheld = resident('VmRSS')\n{work}\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{script}print(resident('VmHWM') - held)", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def resident(which):
    """Return the resident memory of this process, now (VmRSS) or at its highest (VmHWM), in bytes."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
