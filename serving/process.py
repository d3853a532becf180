"""One of several processes on the same ports: `python -m serving.process`, started by `serving.processes`.

It finds its flags and its line to the others in its environment, and ends with its parent.
"""

import logging
import os
import signal
import sys
import threading

from serving import front, logs
from serving.errors import ServingError
from serving.flags import VARIABLE, from_json

_log = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM or the parent's end and return 0; 1 when it can't serve."""
    logs.configure()
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    flags = from_json(os.environ[VARIABLE])
    try:
        _, chosen = front.choose(flags.front)
        return chosen.run(flags)
    except ServingError as error:
        _log.error("%s", error)
        return 1


def _leave_with_parent() -> None:
    # Our standard input is a pipe that the parent holds; nothing is ever written to it.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
