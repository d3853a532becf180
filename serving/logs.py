"""How the server's processes log: one line an event on stderr."""

import logging
import sys


def configure() -> None:
    """Send INFO and above to stderr; called once at a process's start."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(name)s %(message)s"
    )
