from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.data import write_breast_cancer, write_digits
from fitserve import Client
from tests.acceptance.stack import RunningStack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[RunningStack]:
    """One stack for all tests that leave it as they found it; it may read the examples' data in place."""
    running = RunningStack(tmp_path_factory.mktemp("stack") / "home", data_roots=str(data))
    running.wait_until_up()
    yield running
    running.stop()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[RunningStack]:
    """A stack that the test may break."""
    running = RunningStack(tmp_path / "home")
    running.wait_until_up()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def client(stack: RunningStack) -> Iterator[Client]:
    with stack.client() as made:
        yield made


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data sets of the examples."""
    folder = tmp_path_factory.mktemp("data")
    write_digits(folder / "digits.npz")
    write_breast_cancer(folder / "breast_cancer.csv")
    return folder
