"""Run the matrix of architectures and formats, and write docs/formats.md: `make formats`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.formats.page import MODULE, PAGE, TEST, cells_of, counted, text_of


def main() -> int:
    """Run the tests; where one fails, the page stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The one form of report that takes properties.
        into = (f"--junitxml={report}", "--override-ini=junit_family=xunit1")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", MODULE, "-k", TEST, *into, *sys.argv[1:]], check=False
        )
        cells = cells_of(report)
    counts = ", ".join(f"{number} {what}" for what, number in counted(cells).items())
    sys.stdout.write(f"cells: {counts}\n")
    if done.returncode == 0:
        PAGE.write_text(text_of(cells))
        sys.stdout.write(f"wrote {PAGE}\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
