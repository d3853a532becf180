"""The process that converts and proves, apart from the training process since converters crash and hang.

`python -m exporter.child` reads one request a line from stdin and answers each with one line on stdout, both
JSON; arrays pass in .npz files. Replies are {"ok": {...}} or {"error": "..."}. What native libraries print
goes to stderr. The process ends with its parent: at the end of stdin, even in the midst of native code.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from exporter.arrays import plain, read_arrays, write_arrays
from exporter.custom import import_modules
from exporter.format import ConvertedFormat, formats
from exporter.proof import run

PR_SET_PDEATHSIG = 1  # prctl(2): what the kernel sends us when the thread that started us ends
# Any: a JSON document, whose fields `exporter.converter` writes.
Document: TypeAlias = dict[str, Any]


def main() -> None:
    """Answer requests until stdin ends."""
    # Even a process that stands still (SIGSTOP) ends then, which the end of stdin can't bring about.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    # Native libraries print to descriptor 1; the replies move to one of their own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        with ending_with_parent():
            reply = answer(json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)


def answer(request: Document) -> Document:
    """Do what one request asks for; an exception becomes the reply."""
    try:
        return {"ok": _ACTIONS[request["do"]](request)}
    # The border of the process: the parent raises it again, with the artifact's name.
    except Exception as error:
        import traceback

        with suppress(OSError):  # a log on a full disk must not keep the reply back
            traceback.print_exc()
        return {"error": _message(error)}


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """Let the kernel end this process when stdin closes while a request is worked on.

    A thread that reads stdin would not run while native code holds the interpreter lock; SIGIO's default
    action needs no Python. Within a request stdin stays quiet, so its end is all that can be signalled.
    """
    stdin = sys.stdin.fileno()
    flags = fcntl.fcntl(stdin, fcntl.F_GETFL)
    fcntl.fcntl(stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(stdin, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        # Closed before the signal was armed.
        if select.select([stdin], [], [], 0)[0]:
            raise SystemExit(1)
        yield
    finally:
        fcntl.fcntl(stdin, fcntl.F_SETFL, flags)


def _convert(request: Document) -> Document:
    format_ = formats()[request["format"]]
    assert isinstance(format_, ConvertedFormat)
    destination = Path(request["destination"])
    destination.parent.mkdir(parents=True, exist_ok=True)
    recipe = format_.convert(
        Path(request["saved_model"]),
        destination,
        format_.Options.model_validate(request["options"]),
        read_arrays(Path(request["representative"])),
    )
    return {"recipe": recipe}


def _prove(request: Document) -> Document:
    import_modules(request.get("modules", ()))
    which = {"signature_name": request["signature"]} if "signature" in request else {}
    format_, rows = formats()[request["format"]], read_arrays(Path(request["features"]))
    result = run(format_, Path(request["path"]), rows, timed=request.get("timed", True), **which)
    folder = Path(request["answers"])
    folder.mkdir(parents=True, exist_ok=True)
    for size, answers in result.answers.items():
        write_arrays(folder / f"{size}.npz", {name: plain(array) for name, array in answers.items()})
    return {
        "batch_sizes": list(result.answers),
        "latency_ms": {str(size): asdict(latency) for size, latency in result.latency_ms.items()},
        "load_ms": result.load_ms,
        "runtime": result.runtime,
        "signature": result.signature and result.signature.to_json(),
    }


_ACTIONS: dict[str, Callable[[Document], Document]] = {"convert": _convert, "prove": _prove}


def _message(error: Exception) -> str:
    """Shorten a tool's message to what a person reads: converters print whole graphs."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:2000]}" if text else type(error).__name__


if __name__ == "__main__":
    main()
