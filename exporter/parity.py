"""Is the artifact the model? Two sets of answers compared, in numpy alone.

Formulas: difference |a - b|, relative |a - b| / max(|b|, 1e-6), allowed tolerance * max(1, |b|), where `a` is
the artifact's answer and `b` the model's. NaN is equal to nothing, not even to NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.format import Tolerance

if TYPE_CHECKING:
    import numpy.typing as npt

    from exporter.format import Arrays

_SMALLEST = 1e-6
_NOT_NUMBERS = "OSU"


@dataclass(frozen=True)
class Metric:
    """The task's metric on the held-out rows, of the model and of the artifact."""

    name: str
    model: float
    artifact: float

    @property
    def delta(self) -> float:
        """By how much the two differ, in either direction."""
        return abs(self.model - self.artifact)


@dataclass(frozen=True)
class OutputParity:
    """One output compared over all rows and batch sizes.

    `worst_row` is the held-out row, counted from 0, where the difference is largest for what is allowed.
    `problem` says why the numbers can't be compared at all: a missing output, another shape, a NaN.
    """

    agrees: bool
    max_abs_diff: float
    max_rel_diff: float
    worst_row: int
    worst_allowed: float
    argmax_agreement: float | None
    metric: Metric | None
    problem: str | None = None


@dataclass(frozen=True)
class Parity:
    """The proof of an artifact: what was compared, how, and what came out.

    The last `training_rows` of the rows are training rows, where too few were held out.
    """

    outputs: Mapping[str, OutputParity]
    tolerance: Tolerance
    rows: int
    batch_sizes: tuple[int, ...]
    training_rows: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every output of the artifact may stand for the model's."""
        return all(output.agrees for output in self.outputs.values())

    @property
    def max_abs_diff(self) -> float:
        """The largest difference in any output."""
        return max(output.max_abs_diff for output in self.outputs.values())

    def explain(self) -> str:
        """Say with figures how each differing output differs; empty when none does."""
        return "; ".join(
            _explain(name, output, self.tolerance)
            for name, output in self.outputs.items()
            if not output.agrees
        )

    # Any: a JSON document.
    def to_json(self) -> dict[str, Any]:
        """Write the proof as it stands in a manifest; what isn't finite becomes null."""
        document = {
            "agrees": self.agrees,
            "rows": self.rows,
            "training_rows": self.training_rows,
            "batch_sizes": list(self.batch_sizes),
            "max_abs_diff": self.max_abs_diff,
            "tolerance": asdict(self.tolerance),
            "outputs": {name: asdict(output) for name, output in self.outputs.items()},
        }
        return {key: _finite(value) for key, value in document.items()}


def compare(
    expected: Arrays,
    runs: Mapping[int, Arrays],
    tolerance: Tolerance,
    targets: Arrays | None = None,
    *,
    training_rows: int = 0,
) -> Parity:
    """Compare the model's answers with the artifact's.

    Args:
        expected: the model's answers for all rows, by output.
        runs: the artifact's answers by batch size; each run covers the first rows, the longest run all.
        tolerance: how equal is equal.
        targets: the truth for the held-out rows, by output, where it is known; gives the task metric.
        training_rows: how many of the rows, the last ones, aren't held out.
    """
    return Parity(
        outputs={
            name: _compare_output(
                answers,
                {size: run.get(name) for size, run in runs.items()},
                tolerance,
                (targets or {}).get(name),
            )
            for name, answers in expected.items()
        },
        tolerance=tolerance,
        rows=max(len(answers) for answers in expected.values()),
        batch_sizes=tuple(sorted(runs)),
        training_rows=training_rows,
    )


def task_metric(
    answers: npt.NDArray[Any], artifact: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> Metric | None:
    """Score both by accuracy where the shapes tell that classes were learnt; None elsewhere.

    Sparse: answers (..., k > 1) with whole targets (...) or (..., 1) below k, class by argmax.
    One-hot: targets of the answers' shape, zeros with a single one. Binary: answers (..., 1) or (...) within
    [0, 1] with targets 0 or 1, class by > 0.5.
    """
    classes = _classes(answers.shape, targets)
    if classes is not None:
        truth = classes
        ours, theirs = answers.argmax(axis=-1), artifact.argmax(axis=-1)
    elif _is_binary(answers, targets):
        truth = targets.reshape(answers.shape) > 0.5
        ours, theirs = answers > 0.5, artifact > 0.5
    else:
        return None
    return Metric("accuracy", float((ours == truth).mean()), float((theirs == truth).mean()))


def _compare_output(
    expected: npt.NDArray[Any],
    runs: Mapping[int, npt.NDArray[Any] | None],
    tolerance: Tolerance,
    targets: npt.NDArray[Any] | None,
) -> OutputParity:
    for size, actual in runs.items():
        if problem := _problem(expected, actual):
            return _incomparable(f"{problem} (batch size {size})")
    answers = [actual for actual in runs.values() if actual is not None]
    longest = max(answers, key=len)
    allowed = _allowed(expected, tolerance)
    figures = [_difference(expected[: len(run)], run, allowed[: len(run)]) for run in answers]
    worst = max(figures, key=lambda figure: figure.share)
    metric = None
    if targets is not None:
        metric = task_metric(expected[: len(targets)], longest[: len(targets)], targets)
    return OutputParity(
        agrees=_agrees(
            worst.share <= 1, metric, tolerance, len(expected) if targets is None else len(targets)
        ),
        max_abs_diff=max(figure.absolute for figure in figures),
        max_rel_diff=max(figure.relative for figure in figures),
        worst_row=worst.row,
        worst_allowed=worst.allowed,
        argmax_agreement=_argmax_agreement(expected, longest),
        metric=metric,
    )


def _agrees(within: bool, metric: Metric | None, tolerance: Tolerance, rows: int) -> bool:
    if metric is None or tolerance.metric_delta is None:
        return within
    # On few rows a single answer at the edge is more than the allowed share: one may tip if it was close.
    one_row = metric.delta * rows <= 1 + 1e-9 and within
    return metric.delta <= tolerance.metric_delta or one_row


def _problem(expected: npt.NDArray[Any], actual: npt.NDArray[Any] | None) -> str | None:
    if actual is None:
        return "the artifact has no such output"
    if actual.shape[1:] != expected.shape[1:] or len(actual) > len(expected):
        return f"shape {actual.shape} is not the model's {expected.shape}"
    if (actual.dtype.kind in _NOT_NUMBERS) != (expected.dtype.kind in _NOT_NUMBERS):
        return f"dtype {actual.dtype} is not the model's {expected.dtype}"
    for owner, array in (("model", expected), ("artifact", actual)):
        if array.dtype.kind in "fc" and np.isnan(array).any():
            return f"the {owner} answers NaN in row {int(np.argwhere(np.isnan(array))[0][0])}"
    return None


@dataclass(frozen=True)
class _Difference:
    """The largest differences; `share` is the largest difference measured in what is allowed there."""

    absolute: float
    relative: float
    share: float
    row: int
    allowed: float


def _difference(
    expected: npt.NDArray[Any], actual: npt.NDArray[Any], allowed: npt.NDArray[np.float64]
) -> _Difference:
    if expected.dtype.kind in _NOT_NUMBERS:
        absolute = np.where(expected == actual, 0.0, math.inf)
    else:
        b, a = expected.astype(np.float64), actual.astype(np.float64)
        # Two equal infinities are equal; their difference would be NaN.
        with np.errstate(invalid="ignore"):
            absolute = np.where(a == b, 0.0, np.abs(a - b))
    share = absolute / allowed
    place = np.unravel_index(share.argmax(), share.shape)
    return _Difference(
        absolute=float(absolute.max()),
        relative=float((absolute / np.maximum(_magnitude(expected), _SMALLEST)).max()),
        share=float(share[place]),
        row=int(place[0]),
        allowed=float(allowed[place]),
    )


def _allowed(expected: npt.NDArray[Any], tolerance: Tolerance) -> npt.NDArray[np.float64]:
    """Compute how far each answer may be off; over all rows, as a range is no matter of one batch."""
    size = _magnitude(expected)
    if tolerance.scale == "range":
        size = np.full_like(size, size.max(initial=0.0))
    return tolerance.difference * np.maximum(1.0, size)


def _magnitude(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if array.dtype.kind in _NOT_NUMBERS:
        return np.ones(array.shape)
    numbers = np.abs(array.astype(np.float64))
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _incomparable(problem: str) -> OutputParity:
    return OutputParity(
        agrees=False,
        max_abs_diff=math.inf,
        max_rel_diff=math.inf,
        worst_row=0,
        worst_allowed=0.0,
        argmax_agreement=None,
        metric=None,
        problem=problem,
    )


def _argmax_agreement(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float | None:
    if expected.ndim < 2 or expected.shape[-1] < 2 or expected.dtype.kind in _NOT_NUMBERS:
        return None
    return float((expected.argmax(axis=-1) == actual.argmax(axis=-1)).mean())


def _classes(shape: tuple[int, ...], targets: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Read the targets as class numbers of the answers' shape without its last axis; None if they aren't."""
    if len(shape) < 2 or shape[-1] < 2 or targets.dtype.kind not in "biuf":
        return None
    if targets.shape == shape:
        one_hot = np.isin(targets, (0, 1)).all() and (targets.sum(axis=-1) == 1).all()
        return targets.argmax(axis=-1) if one_hot else None
    if targets.shape not in {shape[:-1], (*shape[:-1], 1)}:
        return None
    whole = (targets == np.floor(targets)).all() and targets.min() >= 0 and targets.max() < shape[-1]
    return targets.reshape(shape[:-1]).astype(np.int64) if whole else None


def _is_binary(answers: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
    if answers.size != targets.size or targets.dtype.kind not in "biuf" or answers.dtype.kind != "f":
        return False
    if answers.ndim > 1 and answers.shape[-1] != 1:
        return False
    return bool(np.isin(targets, (0, 1)).all() and answers.min() >= 0 and answers.max() <= 1)


def _explain(name: str, output: OutputParity, tolerance: Tolerance) -> str:
    if output.problem:
        return f"output {name!r}: {output.problem}"
    parts = [
        f"output {name!r}, row {output.worst_row}: the largest difference is {output.max_abs_diff:.3g}",
        f"allowed there {output.worst_allowed:.3g}",
    ]
    if output.argmax_agreement is not None:
        parts.append(f"{output.argmax_agreement:.1%} of the rows agree on the class")
    if output.metric is not None:
        allowed = "" if tolerance.metric_delta is None else f" (allowed change {tolerance.metric_delta:g})"
        parts.append(
            f"{output.metric.name} {output.metric.artifact:.4g} against {output.metric.model:.4g}{allowed}"
        )
    return ", ".join(parts)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
