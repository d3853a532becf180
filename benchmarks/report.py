"""What a benchmark found: a table for people, or one JSON object a line for programs, and the exit code."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One figure of one run: the median of its rounds, with the quartiles beside it.

    `target` is the largest value that holds; None where the figure only informs.
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    rounds: int
    target: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.value <= self.target

    @staticmethod
    def of(name: str, values: Sequence[float], unit: str, target: float | None = None) -> Figure:
        """The median and quartiles of some rounds."""
        low, middle, high = quartiles(values)
        return Figure(name, middle, unit, low, high, len(values), target)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile; of a single value, that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    made.add_argument("--rounds", type=int, default=rounds, help="how often each side is run")
    return made


def show(title: str, figures: Sequence[Figure], *, as_json: bool) -> int:
    """Print the figures; 1 if a target was missed, else 0."""
    if as_json:
        for figure in figures:
            print(json.dumps({**asdict(figure), "holds": figure.holds}))
    else:
        Console(width=130).print(_table(title, figures))
    return 1 if any(figure.holds is False for figure in figures) else 0


def _table(title: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=title)
    table.add_column("figure", no_wrap=True)
    for column in ("median", "quartiles", "unit", "rounds", "target", "holds"):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.name,
            _number(figure.value),
            f"{_number(figure.low)} to {_number(figure.high)}" if figure.rounds > 1 else "",
            figure.unit,
            str(figure.rounds),
            "" if figure.target is None else f"<= {_number(figure.target)}",
            {None: "", True: "yes", False: "NO"}[figure.holds],
        )
    return table


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
