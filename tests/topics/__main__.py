"""Train every example through a running stack and write docs/topics.md from the outcomes: `make topics`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.topics.page import PAGE, figures_of, text_of
from tests.topics.table import MODULE


def main() -> int:
    """Run the tests; where one fails, the page stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The one form of report that takes properties.
        into = (f"--junitxml={report}", "--override-ini=junit_family=xunit1")
        done = subprocess.run([sys.executable, "-m", "pytest", MODULE, *into, *sys.argv[1:]], check=False)
        if done.returncode:
            return done.returncode
        text = text_of(figures_of(report))
    PAGE.write_text(text)
    sys.stdout.write(f"wrote {PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
