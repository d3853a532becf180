"""The commands of the README and the quickstart, run as they stand, in order; only ports and home differ."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from service.processes import Addresses
from service.up import free_addresses
from tests.acceptance.stack import RunningStack, gone, wait_for
from tests.docs.blocks import ROOT, Block, blocks_of

README = blocks_of(ROOT / "README.md")
DEMO = next(block for block in README if block.text == "make demo\n")
UP = next(block for block in README if block.words == ("up",))
COMMANDS = [block for block in README if block.language in ("bash", "python") and block not in (DEMO, UP)]
SHOWN = ("text", "json", "mermaid")
SECONDS = 300


@pytest.fixture(scope="module")
def addresses() -> Addresses:
    return free_addresses()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, addresses: Addresses) -> dict[str, str]:
    """A shell of somebody who has just cloned: a home of their own, and no setting of ours but free ports."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FITSERVE_")},
        "HOME": str(tmp_path_factory.mktemp("home")),
        "FITSERVE_API_PORT": str(addresses.api_port),
        "FITSERVE_GRPC_PORT": str(addresses.grpc_port),
        "FITSERVE_REST_PORT": str(addresses.rest_port),
    }


@pytest.fixture(scope="module")
def up(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The block that starts the stack and stays, until Ctrl-C."""
    output = tmp_path_factory.mktemp("up") / "out"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-ec", UP.text],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(lambda: "fitserve is up" in output.read_text() or shell.poll() is not None, within_s=90)
    assert "fitserve is up" in output.read_text(), output.read_text()
    family = psutil.Process(shell.pid).children(recursive=True)
    yield
    os.killpg(shell.pid, signal.SIGINT)
    shell.wait(timeout=20)
    assert "stopped" in output.read_text()
    assert gone(family) == []


def test_every_block_of_the_readme_is_run_or_only_shown() -> None:
    run = {block.place for block in (DEMO, UP, *COMMANDS)}
    assert {block.language for block in README if block.place not in run} <= set(SHOWN)
    assert len(COMMANDS) == 3


@pytest.mark.full
def test_the_demo_of_the_readme_holds(environment: dict[str, str]) -> None:
    done = _run(DEMO, DEMO.text, environment, ROOT)
    assert "FAIL" not in done.stdout
    assert "everything that was started is stopped" in done.stdout


@pytest.mark.full
def test_the_commands_of_the_readme_work_in_order(
    up: None, environment: dict[str, str], addresses: Addresses, tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in COMMANDS:
        done = _run(block, _at(block, addresses), environment, tmp_path)
        if block.language == "python":
            assert done.stdout == "1 (2, 1)\n"


@pytest.mark.full
def test_the_commands_of_the_quickstart_work_in_order(tmp_path: Path) -> None:
    """And those of the API's page after them, since they look at the quickstart's job."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    stack = RunningStack(tmp_path / "home")
    try:
        stack.wait_until_up()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FITSERVE_")},
            "FITSERVE_HOME": str(stack.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for page in ("quickstart.md", "http-api.md"):
            for block in blocks_of(ROOT / "docs" / page):
                if block.file is not None:
                    (tmp_path / block.file).write_text(block.text)
                if "stack" in block.words:
                    _run(block, _at(block, stack.addresses), environment, tmp_path)
    finally:
        stack.stop()


def _at(block: Block, addresses: Addresses) -> str:
    host = addresses.host
    return block.at(
        api=f"{host}:{addresses.api_port}",
        grpc=f"{host}:{addresses.grpc_port}",
        rest=f"{host}:{addresses.rest_port}",
    )


def _run(
    block: Block, text: str, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a block by bash or Python; it must end with 0."""
    python = block.language == "python"
    done = subprocess.run(
        [sys.executable, "-"] if python else ["bash", "-euo", "pipefail", "-c", text],
        input=text if python else None,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{block.place}\n{text}\n{done.stdout}\n{done.stderr}"
    return done
