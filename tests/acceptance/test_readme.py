"""The README's commands, run as they stand there, in order; only the ports and the home are others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs import JobSpec
from service.up import free_addresses
from tests.acceptance.stack import gone, wait_for

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (match["info"].strip(), match["code"]) for match in FENCE.finditer((ROOT / "README.md").read_text())
]
RUN = ("bash", "bash up", "python")
SHOWN = ("text", "json", "mermaid")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    addresses = free_addresses()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FITSERVE_")},
        "HOME": str(tmp_path_factory.mktemp("home")),
        "FITSERVE_API_PORT": str(addresses.api_port),
        "FITSERVE_GRPC_PORT": str(addresses.grpc_port),
        "FITSERVE_REST_PORT": str(addresses.rest_port),
    }


@pytest.fixture(scope="module")
def up(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The block that starts the stack and stays."""
    output = tmp_path_factory.mktemp("up") / "out"
    (code,) = [code for info, code in BLOCKS if info == "bash up"]
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-ec", code],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(lambda: "fitserve is up" in output.read_text() or shell.poll() is not None, within_s=90)
    assert "fitserve is up" in output.read_text(), output.read_text()
    import psutil

    family = psutil.Process(shell.pid).children(recursive=True)
    yield
    os.killpg(shell.pid, signal.SIGINT)  # what Ctrl-C does
    shell.wait(timeout=20)
    assert "stopped" in output.read_text()
    assert gone(family) == []


def test_every_block_is_of_a_kind_that_is_run_or_only_shown() -> None:
    assert {info for info, _ in BLOCKS} <= {*RUN, *SHOWN}


def test_the_demo_holds(environment: dict[str, str]) -> None:
    code = next(code for info, code in BLOCKS if code == "make demo\n")
    done = _bash(code, environment, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "everything that was started is stopped" in done.stdout


def test_the_commands_for_a_running_stack_work_in_order(
    up: None, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    ran = 0
    for info, code in BLOCKS:
        if info == "bash up" or code == "make demo\n" or info not in RUN:
            continue
        here = code
        for port, name in (("8000", "API"), ("8500", "GRPC"), ("8501", "REST")):
            here = here.replace(f"127.0.0.1:{port}", f"127.0.0.1:{environment[f'FITSERVE_{name}_PORT']}")
        script = here if info == "bash" else f"{sys.executable} - <<'PYTHON'\n{here}\nPYTHON\n"
        done = _bash(script, environment, tmp_path)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        ran += 1
        if info == "python":
            assert "1 (2, 1)" in done.stdout
    assert ran == 3


def test_the_spec_shown_is_one_that_would_be_taken() -> None:
    import json

    specs = [json.loads(code) for info, code in BLOCKS if info == "json"]
    assert [JobSpec.model_validate(spec).name for spec in specs] == ["digits"]


def _bash(code: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
