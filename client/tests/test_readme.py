from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fitserve.cli.exits import Exit

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SPEC = next(text for language, text in BLOCKS if language == "json")


def command_of(language: str, text: str) -> list[str]:
    return (
        ["bash", "-euo", "pipefail", "-c", text]
        if language == "sh"
        else [sys.executable, "-W", "error", "-c", text]
    )


@pytest.mark.parametrize(("language", "text"), [block for block in BLOCKS if block[0] != "json"])
def test_each_block_of_the_readme_runs(api, serving, tmp_path, language, text):
    api.trains_at_once = True
    (tmp_path / "spec.json").write_text(SPEC)
    command = tmp_path / "bin" / "fitserve"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom fitserve.cli import main\nmain()\n")
    command.chmod(0o755)
    environ = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "FITSERVE_HOME": str(tmp_path),
        "FITSERVE_URL": api.url,
        "FITSERVE_TOKEN": "a-token-of-the-tests",
        "FITSERVE_SERVING_GRPC": serving,
    }

    ran = subprocess.run(
        command_of(language, text),
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    shown = (
        "succeeded",
        "image: float32 (None, 8, 8, 1)",
        "Prediction(customers version 2; age: float32 (3,)",
    )
    assert any(text in ran.stdout for text in shown)


def test_the_readme_lists_every_exit_code():
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)]
    assert listed == [code.value for code in Exit]
