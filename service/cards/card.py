"""Write the card of a version: Markdown with the header that model hubs read, and the same as one HTML page.

Values come out of specs and data: in tables and in HTML they are written as text, never as markup.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cards.figures import confusion, curves

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# Any: JSON documents.
Facts = Mapping[str, Any]


def markdown(facts: Facts) -> str:
    """Write the card; `facts` are named as in `card.md.j2`."""
    return _rendered(facts, {"curves": None, "confusion": {}})


def page(facts: Facts) -> str:
    """Write the card as an HTML page that needs nothing besides, with the learning curves drawn."""
    drawn = {
        "curves": _inline(curves(facts["history"])) if facts["history"] else None,
        "confusion": {
            output: _inline(confusion(found["confusion_matrix"]))
            for output, found in facts["judgement"]["outputs"].items()
            if found.get("confusion_matrix")
        },
    }
    text = _rendered(facts, drawn).split("---\n", 2)[2]  # without the header
    reader = _reader()
    return _PAGE.format(title=escape(str(facts["name"])), body=reader.render(text))


def _reader() -> MarkdownIt:
    """Read Markdown without HTML in it, and without links or pictures that lead out of the page."""
    from markdown_it import MarkdownIt

    class Reader(MarkdownIt):
        def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's own name
            return url.startswith("data:image/svg+xml;base64,")

    return Reader("commonmark", {"html": False}).enable("table")


def _rendered(facts: Facts, figures: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - it writes Markdown, whose reader takes no HTML
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "figure": _figure, "shape": _shape}
    return environment.get_template("card.md.j2").render(**facts, figures=figures)


def _cell(text: object) -> str:
    """Keep a text within its cell."""
    return str(text).replace("|", "\\|").replace("`", "'").replace("\n", " ")


def _figure(values: Mapping[str, float | None], name: str) -> str:
    value = values.get(name)
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _shape(sizes: Sequence[int | None] | None) -> str:
    if sizes is None:
        return "any"
    names = ["batch" if size is None and not place else str(size) for place, size in enumerate(sizes)]
    return f"({', '.join(names)})"


def _inline(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid #8886; padding: 0.25rem 0.75rem; text-align: left; }}
pre {{ overflow-x: auto; font-size: 0.8rem; line-height: 1.2; }}
img {{ max-width: 100%; background: white; }}
</style>
</head>
<body>
{body}</body>
</html>
"""
