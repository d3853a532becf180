"""The drawings of a model card, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED_CLASSES = 20


def curves(history: Mapping[str, Sequence[float]]) -> bytes:
    """Draw each metric by epoch, of training and of validation in one field."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = [name for name in history if not name.startswith("val_")]
    figure = Figure(figsize=(4 * len(metrics), 3), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for name, label in ((metric, "training"), (f"val_{metric}", "validation")):
            if name in history:
                axes.plot(range(1, len(history[name]) + 1), history[name], label=label, marker=".")
        axes.set_title(metric)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return _svg(figure)


def confusion(matrix: Sequence[Sequence[int]]) -> bytes:
    """Draw a confusion matrix, rows the true classes, each coloured by its share of its row."""
    from matplotlib.figure import Figure

    totals = [sum(row) or 1 for row in matrix]
    shares = [[count / total for count in row] for row, total in zip(matrix, totals, strict=True)]
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(matrix) <= LABELLED_CLASSES:
        axes.set_xticks(range(len(matrix)))
        axes.set_yticks(range(len(matrix)))
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    from matplotlib import rc_context

    out = io.BytesIO()
    # The same bytes for the same figures: ids by a fixed salt, no date.
    with rc_context({"svg.hashsalt": "fitserve"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
