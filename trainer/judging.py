"""What a trained model does with rows it was not trained on: confusion matrices and residuals, by output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.compiling import losses_by_output

if TYPE_CHECKING:
    import numpy as np

    from trainer.compiling import CompileOptions

MOST_CLASSES = 1000
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_NUMBERED_CLASSES = ("sparsecategoricalcrossentropy", "categoricalgeneralizedcrossentropy")
_CLASSES = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge", *_NUMBERED_CLASSES)
_TWO_CLASSES = ("binarycrossentropy", "binaryfocalcrossentropy", "hinge", "squaredhinge")


def judge(
    how: CompileOptions, targets: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Compare the model's answers with the targets, both by output name and of shape (rows, ...); JSON.

    What an output says is told by its loss. Classes get a `confusion_matrix`, whose rows are the true classes
    and whose columns the predicted ones, and `precision` and `recall` by class (null where there is nothing
    to divide by); any other output that has its target's shape gets its `residuals`, of target minus answer
    (null where they have no bounds).
    """
    losses = losses_by_output(how, list(targets))
    # An output without a loss has no target that its answers could be compared with.
    judged = {
        name: _judged(*losses[name], targets[name], answers[name]) for name in targets if losses[name][0]
    }
    return {name: each for name, each in judged.items() if each is not None}


def _judged(loss: str, from_logits: bool, target: np.ndarray, answer: np.ndarray) -> dict[str, Any] | None:
    folded = loss.lower().replace("_", "")
    if folded == "crossentropy":
        folded = _crossentropy_of(target, answer)
    if folded.endswith(_CLASSES) and answer.ndim > 1:
        predicted = answer.argmax(-1)
        numbered = folded.endswith(_NUMBERED_CLASSES)
        return _confusion(
            _as(predicted, target) if numbered else target.argmax(-1), predicted, answer.shape[-1]
        )
    if folded.endswith(_TWO_CLASSES):
        middle = 0.0 if from_logits or "hinge" in folded else 0.5
        return _confusion(_as(answer, target) > middle, answer > middle, 2)
    target = _as(answer, target)
    # CTC's texts and Circle's classes are no values that an answer should have.
    return _residuals(target - answer) if target.shape == answer.shape else None


def _crossentropy_of(target: np.ndarray, answer: np.ndarray) -> str:
    """Choose by the shapes, as Keras does."""
    if answer.shape[-1] == 1:
        return "binarycrossentropy"
    numbered = target.ndim < answer.ndim or target.shape[-1] == 1
    return "sparsecategoricalcrossentropy" if numbered else "categoricalcrossentropy"


def _as(like: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the target in the shape of what it is compared with: (rows,) and (rows, 1) are the same."""
    return target.reshape(like.shape) if target.size == like.size else target


def _confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    import numpy as np

    true, predicted = true.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    accuracy = float((true == predicted).mean())
    if classes > MOST_CLASSES:
        return {"kind": "classes", "classes": classes, "accuracy": accuracy, "confusion_matrix": None}
    matrix = np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    hits, found, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return {
        "kind": "classes",
        "classes": classes,
        "accuracy": accuracy,
        "confusion_matrix": matrix.tolist(),
        "precision": [float(hit / of) if of else None for hit, of in zip(hits, found, strict=True)],
        "recall": [float(hit / of) if of else None for hit, of in zip(hits, there, strict=True)],
    }


def _residuals(residuals: np.ndarray) -> dict[str, Any]:
    import numpy as np

    flat = residuals.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):  # a last step may have thrown the answers out of all bounds
        found = {
            "mean": flat.mean(),
            "std": flat.std(),
            "mae": np.abs(flat).mean(),
            "rmse": np.sqrt((flat**2).mean()),
        }
        quantiles = np.quantile(flat, _QUANTILES)
    return {
        "kind": "numbers",
        "residuals": {
            **{name: _finite(value) for name, value in found.items()},
            "quantiles": {f"{q:g}": _finite(value) for q, value in zip(_QUANTILES, quantiles, strict=True)},
        },
    }


def _finite(value: float) -> float | None:
    """Return a number for JSON, which has no infinity."""
    return float(value) if math.isfinite(value) else None
