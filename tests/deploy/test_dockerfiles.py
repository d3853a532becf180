"""The images hold what the lock files name, run without root, and take nothing private in."""

from __future__ import annotations

import json
import re
import sys
import tomllib

import pytest

from exporter.tfjs import CONVERTER, FOLDER
from tests.deploy.conftest import ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
ACCELERATORS = ROOT / "deploy" / "accelerators"


def _instructions(file) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def _last(file, instruction) -> str:
    return [rest for name, rest in _instructions(file) if name == instruction][-1]


def _last_of(instructions, text) -> str:
    return [rest for name, rest in instructions if name == "RUN" and text in rest][-1]


def _locked(file) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE))


def test_each_image_that_is_built_has_its_file(compose):
    named = {service["build"]["dockerfile"] for service in compose["services"].values() if "build" in service}

    assert named == {f"deploy/{file.name}" for file in DOCKERFILES}


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
class TestDockerfile:
    def test_every_stage_starts_from_the_pinned_base(self, file):
        bases = [rest.split(" AS ") for name, rest in _instructions(file) if name == "FROM"]
        stages = {names[1] for names in bases if len(names) == 2}

        # The worker runs TensorFlow.js.
        others = {"node:20-bookworm-slim"} if file.name == "worker.Dockerfile" else set()
        assert {names[0] for names in bases} - stages == {"python:3.11-slim-bookworm"} | others

    def test_whatever_is_installed_is_checked_by_hash_or_is_our_own(self, file):
        commands = [rest for name, rest in _instructions(file) if name == "RUN"]
        installing = [command for command in commands if re.search(r"pip.* install", command)]

        assert len(installing) >= 3
        for command in installing:
            assert "--no-deps" in command
            assert "--require-hashes" in command or "--no-index /tmp/wheels/*.whl" in command
        (building,) = [command for command in commands if "uv build" in command]
        assert building.count("--require-hashes --build-constraints deploy/locks/dev.txt") == 2

    def test_the_last_stage_runs_as_another_user_than_root(self, file):
        assert _last(file, "USER") == "10001:10001"
        assert "useradd --uid 10001 --gid 10001" in file.read_text()

    def test_every_folder_that_is_mounted_exists_and_is_the_users(self, file, compose):
        (folders,) = re.findall(r"for folder in ([\w ]+);", file.read_text())
        for service in compose["services"].values():
            if service.get("build", {}).get("dockerfile") == f"deploy/{file.name}":
                # In the long form: what is mounted to be read alone, and is whose it is.
                mounted = [each.split(":")[1] for each in service["volumes"] if isinstance(each, str)]
                assert set(mounted) <= {f"/var/lib/fitserve/{folder}" for folder in folders.split()}

    def test_it_starts_the_process_that_compose_starts(self, file, compose):
        name = file.name.removesuffix(".Dockerfile")

        assert json.loads(_last(file, "CMD")) == compose["services"][name]["command"]

    def test_no_index_or_host_is_named(self, file):
        assert not re.search(r"https?://|--index|--extra-index|--trusted-host", file.read_text())


def test_the_api_image_has_no_tensorflow():
    text = (ROOT / "deploy/api.Dockerfile").read_text()

    assert "deploy/locks/api.txt" in text
    assert not [name for name in _locked(ROOT / "deploy/locks/api.txt") if re.match("tensorflow|keras", name)]


def test_the_worker_image_has_tensorflow_js_where_the_format_looks_for_it():
    instructions = _instructions(ROOT / "deploy/worker.Dockerfile")
    (environment,) = re.findall(r"ENV VIRTUAL_ENV=(\S+)", (ROOT / "deploy/worker.Dockerfile").read_text())
    folder = f"{environment}/{FOLDER.relative_to(sys.prefix)}"

    assert ("COPY", f"deploy/locks/tfjs {folder}") in instructions
    assert f"--require-hashes --target {folder}/{CONVERTER.name} " in _last_of(instructions, "tfjs.txt")
    assert ("COPY", f"--from=node {folder} {folder}") in instructions


def test_the_serving_user_may_read_what_the_worker_writes(compose):
    assert compose["services"]["serving"]["user"] == _last(ROOT / "deploy/worker.Dockerfile", "USER")


def test_the_build_context_holds_every_package_and_nothing_private():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert allowed == {
        *ours["packages"],
        *("pyproject.toml", "README.md"),
        *("client/pyproject.toml", "client/README.md", "client/fitserve"),
        *("deploy/locks", "deploy/accelerators"),
    }


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_an_accelerator_is_chosen_by_its_override_and_adds_to_the_same_tensorflow(accelerator):
    worker = _locked(ROOT / "deploy/locks/worker.txt")
    file = ACCELERATORS / f"{accelerator}.txt"
    added = _locked(file)
    (requirement,) = re.findall(r"lock\.sh from: (\S+)", file.read_text())

    assert f"ACCELERATOR: {accelerator}" in (ROOT / f"deploy/{accelerator}.compose.yml").read_text()
    assert added
    assert not set(added) & set(worker)
    assert requirement.endswith(f"=={worker['tensorflow']}")


def test_every_package_that_an_accelerator_adds_has_a_hash():
    for file in ACCELERATORS.glob("*.txt"):
        for block in re.findall(r"^\w\S+==.*(?:\n    .*)*", file.read_text(), re.MULTILINE):
            assert "--hash=sha256:" in block
