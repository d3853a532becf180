"""Rows as the exporter is given them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Samples:
    """Rows: features by input name, first axis the row; targets by output name, or alone for one.

    `requests` are the same rows' columns as a request sends them, where there is a preparation.
    """

    features: Mapping[str, npt.NDArray[Any]]
    targets: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]] | None = None
    requests: Mapping[str, npt.NDArray[Any]] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return min((len(array) for array in self.features.values()), default=0)
