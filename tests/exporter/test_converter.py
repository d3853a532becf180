from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from exporter.converter import Converter
from exporter.errors import ConverterKilledError, ExportFailedError, ExportStoppedError


@pytest.fixture
def hanging(tmp_path):
    """A request that never ends: its rows come from a pipe that nobody writes."""
    pipe = tmp_path / "rows.npz"
    os.mkfifo(pipe)
    return {"do": "prove", "format": "onnx", "path": "", "features": str(pipe), "answers": ""}


def started(converter):
    """Start the child by a request it answers with an error."""
    with pytest.raises(ExportFailedError):
        converter.ask(
            {"do": "prove", "format": "onnx", "path": "", "features": "absent", "answers": ""}, artifact="x"
        )
    return converter.pid


def children():
    return {child.pid for child in psutil.Process().children() if "exporter.child" in child.cmdline()}


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_in_the_child_is_told_with_the_exports_name():
    with Converter(timeout_s=60) as converter, pytest.raises(ExportFailedError) as caught:
        converter.ask(
            {"do": "prove", "format": "onnx", "path": "", "features": "/absent.npz", "answers": ""},
            artifact="onnx",
        )
    assert caught.value.artifact == "onnx"
    assert "'onnx' failed: prove onnx: FileNotFoundError" in str(caught.value)


def test_the_child_serves_one_request_after_the_other():
    with Converter(timeout_s=60) as converter:
        assert started(converter) == started(converter)


def test_a_hanging_converter_is_killed_after_the_timeout(hanging):
    before = children()
    with Converter(timeout_s=1) as converter:
        with pytest.raises(ExportFailedError, match=r"'slow' failed: prove onnx: no answer .* within 1 s"):
            converter.ask(hanging, artifact="slow")
        assert converter.pid is None
    assert children() == before


def test_a_converter_that_takes_too_much_memory_is_killed(hanging):
    before = children()
    with Converter(timeout_s=60, memory_bytes=1024) as converter:
        with pytest.raises(ExportFailedError, match=r"prove onnx: the converter held .* of 1,024 left"):
            converter.ask(hanging, artifact="large")
        assert converter.pid is None
    assert children() == before


def test_a_converter_that_crashed_is_told_by_its_signal_and_started_again():
    with Converter(timeout_s=60) as converter:
        pid = started(converter)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(ExportFailedError, match=r"'x' failed: .*died of SIGSEGV") as caught:
            converter.ask({"do": "prove", "format": "onnx"}, artifact="x")
        assert not getattr(caught.value, "retryable", False)
        assert started(converter) != pid


def test_a_converter_that_somebody_killed_is_replaced_and_asked_again():
    with Converter(timeout_s=60) as converter:
        pid = started(converter)
        os.kill(pid, signal.SIGKILL)
        assert started(converter) != pid  # it answers


def test_a_converter_that_is_killed_time_and_again_may_be_left_alone_another_time(hanging):
    with Converter(timeout_s=60) as converter:
        started(converter)
        killed = threading.Event()

        def kill_all():
            seen = set()
            while not killed.is_set():
                pid = converter.pid
                if pid is not None and pid not in seen:
                    os.kill(pid, signal.SIGKILL)
                    seen.add(pid)
                time.sleep(0.01)

        killer = threading.Thread(target=kill_all)
        killer.start()
        try:
            with pytest.raises(ConverterKilledError, match="was killed 2 times") as caught:
                converter.ask(hanging, artifact="x")
        finally:
            killed.set()
            killer.join()
    assert (caught.value.code, caught.value.retryable) == ("export_failed", True)


def test_a_stop_breaks_off_the_request_and_kills_the_child(hanging):
    stop = threading.Event()
    with Converter(timeout_s=60, should_stop=stop.is_set) as converter:
        pid = started(converter)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(ExportStoppedError):
            converter.ask(hanging, artifact="x")
        assert not psutil.pid_exists(pid)


def test_the_child_shares_its_parents_process_group():
    with Converter(timeout_s=60) as converter:
        assert os.getpgid(started(converter)) == os.getpgrp()


def test_a_busy_child_ends_when_its_parent_is_killed(hanging):
    code = (
        "from exporter.converter import Converter\n"
        "import threading, time\n"
        "converter = Converter(timeout_s=600)\n"
        f"asking = threading.Thread(target=converter.ask, args=({hanging!r},), kwargs=dict(artifact='x'))\n"
        "asking.start()\n"
        "while converter.pid is None: time.sleep(0.01)\n"
        "print(converter.pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        # Opening the pipe without blocking succeeds once the child waits at its other end.
        writer = None

        def child_reads():
            nonlocal writer
            try:
                writer = os.open(hanging["features"], os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False
            return True

        wait_until(child_reads)
        parent.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        os.close(writer)
