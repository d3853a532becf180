"""The fenced blocks of a page: what they are of, what is to be done with them, and where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "client" / "README.md",
    ROOT / "deploy" / "README.md",
    ROOT / "examples" / "README.md",
)
_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block; `words` are what follows the language, such as `stack` or `file=spec.json`."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        """The page and the line of the block's first fence."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name under which later blocks expect this one's text."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def at(self, *, api: str, grpc: str, rest: str) -> str:
        """The text with other addresses (`host:port`) in place of the usual ones."""
        text = self.text
        for usual, other in (("127.0.0.1:8000", api), ("127.0.0.1:8500", grpc), ("127.0.0.1:8501", rest)):
            text = text.replace(usual, other)
        return text


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        found.append(
            Block(
                page=page.relative_to(ROOT).as_posix(),
                line=text.count("\n", 0, match.start()) + 1,
                language=language,
                words=tuple(words),
                text=match["text"],
            )
        )
    return found


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
