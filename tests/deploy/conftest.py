"""The compose files as Docker Compose would see them, and the repository they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, which is the build context too."""
    return ROOT


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors merged and its variables as they stand."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())
