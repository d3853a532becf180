from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.format import Loaded, Runtime
from exporter.proof import run

if TYPE_CHECKING:
    from exporter.format import Arrays


class Doubling:
    """Answers twice what it is asked, and remembers how many rows each call had."""

    def __init__(self, batch_size: int | None) -> None:
        self.calls: list[int] = []
        self.format = SimpleNamespace(
            RUNTIME=Runtime("numpy", "numpy"), load=lambda _path: Loaded(self.predict, batch_size)
        )

    def predict(self, features: Arrays) -> Arrays:
        self.calls.append(len(features["x"]))
        return {"y": features["x"] * 2}


@pytest.mark.parametrize(
    ("batch_size", "rows_asked", "sizes"),
    [(None, {1: 32, 7: 63, 32: 100}, {1, 7, 2, 32, 4, 64}), (1, {1: 100}, {1})],
)
def test_an_artifact_is_asked_at_three_sizes_or_at_its_own(
    batch_size: int | None, rows_asked: dict[int, int], sizes: set[int]
) -> None:
    artifact, rows = Doubling(batch_size), {"x": np.arange(100.0)}
    found = run(artifact.format, Path("nowhere"), rows)
    assert {size: len(answers["y"]) for size, answers in found.answers.items()} == rows_asked
    assert set(artifact.calls) <= sizes
    for answers in found.answers.values():
        np.testing.assert_array_equal(answers["y"], rows["x"][: len(answers["y"])] * 2)
    assert set(found.latency_ms) == {1, 64}


def test_a_runtime_that_is_no_python_distribution_states_its_version_and_is_closed() -> None:
    closed: list[bool] = []
    loaded = Loaded(lambda features: features, version="7.1", close=lambda: closed.append(True))
    format_ = SimpleNamespace(RUNTIME=Runtime("steam", "numpy"), load=lambda _path: loaded)
    assert run(format_, Path("nowhere"), {"x": np.zeros(3)}).runtime == "steam 7.1"
    assert closed == [True]


def test_a_runtime_is_closed_when_it_fails() -> None:
    closed: list[bool] = []

    def predict(features: Arrays) -> Arrays:
        raise RuntimeError("steam ran out")

    loaded = Loaded(predict, version="7.1", close=lambda: closed.append(True))
    format_ = SimpleNamespace(RUNTIME=Runtime("steam", "numpy"), load=lambda _path: loaded)
    with pytest.raises(RuntimeError, match="steam ran out"):
        run(format_, Path("nowhere"), {"x": np.zeros(3)})
    assert closed == [True]
