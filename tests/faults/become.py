"""Become another program as another user, tied to our parent: `become PARENT_PID USER PROGRAM ARGS...`.

PostgreSQL refuses to run as root, and who it runs as may not read our Python. The tie comes last, since a
change of user unties (prctl(2)).
"""

from __future__ import annotations

import os
import pwd
import signal
import sys

from service.tether import tie_to


def main() -> None:
    """Change the user, tie, exec."""
    parent, name, *program = sys.argv[1:]
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    tie_to(int(parent), signal.SIGINT)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
