from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import fitserve

HEAVY = ("tensorflow", "keras", "tensorflow_serving", "grpc", "numpy", "httpx", "yaml", "pandas")


def in_a_fresh_process(code: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=environ
    )
    return done.stdout.strip()


def test_importing_the_client_loads_nothing_heavy():
    assert (
        in_a_fresh_process(f"import fitserve, sys; print([m for m in {HEAVY!r} if m in sys.modules])") == "[]"
    )


def test_the_command_line_shows_its_help_without_loading_anything_heavy():
    code = f"import fitserve.cli, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert in_a_fresh_process(code) == "[]"


def test_predictions_and_jobs_need_no_tensorflow():
    code = """
        import sys, fitserve
        fitserve.Predictor("127.0.0.1:1").close(); fitserve.Client("http://127.0.0.1:1").close()
        print([name for name in ("tensorflow", "keras", "tensorflow_serving") if name in sys.modules])
    """
    assert in_a_fresh_process(code) == "[]"


def test_importing_the_client_takes_little_time():
    code = """
        import time
        started = time.process_time()
        import fitserve
        print(time.process_time() - started)
    """
    # Measured: 0.001 s of processor time. httpx alone is 0.25 s, numpy 0.15 s.
    assert min(float(in_a_fresh_process(code)) for _ in range(3)) < 0.05


@pytest.mark.parametrize(
    "name", [name for name in dir(fitserve) if name[0].isupper() and name != "TYPE_CHECKING"]
)
def test_every_public_name_is_there(name):
    assert getattr(fitserve, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Predicter"):
        _ = fitserve.Predicter
