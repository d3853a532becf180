from __future__ import annotations

import json
import signal
import subprocess
import sys


def start(code):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_native_code_that_holds_the_interpreter_lock_ends_with_stdin():
    # PyDLL calls keep the lock, so no Python thread and no Python signal handler could run.
    code = (
        "import ctypes\n"
        "from exporter.child import ending_with_parent\n"
        "with ending_with_parent():\n"
        "    print('working', flush=True)\n"
        "    ctypes.PyDLL(None).sleep(60)\n"
    )
    with start(code) as process:
        assert process.stdout.readline() == "working\n"
        process.stdin.close()
        assert process.wait(10) == -signal.SIGIO


def test_stdin_that_closed_too_early_is_noticed():
    code = (
        "import sys\n"
        "from exporter.child import ending_with_parent\n"
        "sys.stdin.read()\n"
        "with ending_with_parent():\n"
        "    print('working')\n"
    )
    with start(code) as process:
        assert process.communicate(timeout=30)[0] == ""
        assert process.returncode == 1


def test_the_child_ends_by_itself_when_no_request_is_left():
    with start("from exporter.child import main; main()") as process:
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_what_libraries_print_does_not_mix_with_the_replies():
    code = (
        "import os, exporter.child as child\n"
        "def loud(request):\n"
        "    print('from Python', flush=True); os.write(1, b'from C')\n"
        "    return {'done': True}\n"
        "child._ACTIONS['loud'] = loud\n"
        "child.main()\n"
    )
    with start(code) as process:
        process.stdin.write(json.dumps({"do": "loud"}) + "\n")
        process.stdin.flush()
        reply = process.stdout.readline()
        rest, log = process.communicate(timeout=30)
    assert rest == ""
    assert json.loads(reply) == {"ok": {"done": True}}
    assert "from Python" in log
    assert "from C" in log
