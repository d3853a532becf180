"""What the pages point at is there, and what they show as code is code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import BLOCKS, PAGES, ROOT, Block, blocks_of, prose_of

FOLDERS = ("service", "trainer", "exporter", "serving", "client", "deploy", "examples", "tests", "docs")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`(?P<code>[^`\n]+)`")
A_PATH = re.compile(rf"(?:{'|'.join(FOLDERS)}|benchmarks|\.ci)/[\w./-]*|docker-compose\.yml|pyproject\.toml")
LANGUAGES = {"python", "sh", "bash", "json", "yaml", "text", "mermaid", ""}


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors: lower case, punctuation gone, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_leads_to_a_file_and_its_anchor_to_a_heading(page: Path) -> None:
    broken = []
    for match in LINK.finditer(prose_of(page)):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            broken.append(match["target"])
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_path_named_in_code_quotes_exists(page: Path) -> None:
    named = {match["code"] for match in CODE.finditer(prose_of(page)) if A_PATH.fullmatch(match["code"])}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_file_of_the_tree_in_the_architecture_exists() -> None:
    (tree,) = [block for block in blocks_of(ROOT / "ARCHITECTURE.md") if block.text.startswith("service/")]
    missing, folder, seen = [], ROOT, 0
    for line in tree.text.splitlines():
        if not line.startswith(" "):
            folder = ROOT / line.split("/")[0]
            missing += [] if folder.is_dir() else [folder.name]
            continue
        for name in re.findall(r"\b\w+(?:\.py|\.json|/)(?=\s|$)", line):
            seen += 1
            missing += [] if (folder / name).exists() else [f"{folder.name}/{name}"]
    assert missing == []
    assert seen > 60


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_block_is_of_a_known_kind(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.place)
def test_python_blocks_compile(block: Block) -> None:
    ast.parse(block.text, filename=block.place)


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.place)
def test_json_blocks_parse(block: Block) -> None:
    json.loads(block.text)


def test_shell_blocks_parse() -> None:
    script = "\n".join(f"# {block.place}\n{block.text}" for block in of("sh", "bash"))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_decisions_are_numbered_without_gaps_listed_and_of_one_form() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text()
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Cost",
            "Alternatives",
        ], page.name
        assert f"({page.name})" in index


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(set(words), key=str.casefold)
