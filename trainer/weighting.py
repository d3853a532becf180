"""How much each class counts: as the spec says, or by how rare it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from trainer.errors import SpecUnbuildableError

if TYPE_CHECKING:
    from trainer.samples import Samples


def class_weights(
    asked: Mapping[int, float] | Literal["balanced"] | None, rows: Samples
) -> dict[int, float] | None:
    """Return Keras's `class_weight` for these training rows.

    `balanced` is scikit-learn's rule: rows / (classes * rows of the class), so that all classes count alike.

    Raises:
        SpecUnbuildableError: there are several targets, or they are no classes.
    """
    import numpy as np

    if asked is None:
        return None
    if len(rows.targets) > 1:
        raise SpecUnbuildableError(
            f"class_weight is for a model with one output, this one has {', '.join(rows.targets)}",
            remedy="Weigh rows instead: data.sample_weight names a column.",
            location={"pointer": "/fit/class_weight"},
        )
    if asked != "balanced":
        return dict(asked)
    (target,) = rows.whole_targets().values()
    classes = target.argmax(-1) if target.ndim > 1 and target.shape[-1] > 1 else target.ravel()
    found, counts = np.unique(classes, return_counts=True)
    if (found < 0).any() or (found != np.floor(found)).any():
        raise SpecUnbuildableError(
            'class_weight "balanced" needs classes counted from 0 as the label',
            location={"pointer": "/fit/class_weight"},
        )
    weights = len(classes) / (len(found) * counts)
    return {int(each): float(weight) for each, weight in zip(found, weights, strict=True)}
