"""A dry run tells which signatures a model can't have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.kinds import validate
from tests.service.test_formats import order
from tests.service.test_train import Kept

WARM = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
COLOURS = ["blue", "red", "green"]


def spec(units: int, signatures: list[str], loss: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {
            "kind": "sequential",
            "layers": [{"class_name": "Dense", "config": {"units": units, "name": "y"}}],
        },
        "data": {
            "kind": "inline",
            "rows": [{"size": n % 7 / 7, "colour": COLOURS[n % max(2, units)]} for n in range(60)],
            "features": "size",
            "label": "colour",
            "columns": {"colour": {"kind": "category"}},
        },
        "compile": {"loss": loss},
        "export": [{"format": "saved_model", "signatures": signatures}],
    }


CROSSENTROPY = {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}


@WARM
@pytest.mark.parametrize(
    ("units", "signatures", "loss", "reason"),
    [
        # Of a single unit that gives logits it is the loss that makes a probability.
        (
            1,
            ["classify", "regress"],
            {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}},
            None,
        ),
        pytest.param(
            1,
            ["classify"],
            "mse",
            "the model's loss is mean_squared_error; leave it out",
            marks=pytest.mark.full,
        ),
        pytest.param(
            3,
            ["regress"],
            CROSSENTROPY,
            "one output, of one number; this one's has 3",
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_dry_run_says_which_signatures_a_model_can_not_have(
    tmp_path: Path, units: int, signatures: list[str], loss: Any, reason: str | None
) -> None:
    told = validate.run(order(tmp_path, **spec(units, signatures, loss)), Kept())
    (saved_model,) = told["exports"]
    assert saved_model["feasible"] == (reason is None)
    assert (reason or "") in (saved_model["reason"] or "")
    assert [fault["pointer"] for fault in told["faults"]] == ([] if reason is None else ["/export/0"])


@WARM
@pytest.mark.full
def test_a_dry_run_says_that_callers_would_fail(tmp_path: Path) -> None:
    tensor = {"name": "size", "dtype": "float64", "shape": [None, 1]}
    output = {"name": "y", "dtype": "float32", "shape": [None, 3]}
    given = order(tmp_path, **spec(3, [], CROSSENTROPY))
    given = replace(
        given,
        details={
            **given.details,
            "signature": {"serving_default": {"inputs": [tensor], "outputs": [output]}},
        },
    )
    told = validate.run(given, Kept())
    (fault,) = told["faults"]
    assert fault["pointer"] == "/allow_signature_change"
    assert "serving_default input 'size' was float64 (*, 1), is" in fault["detail"]
    allowed = replace(given, spec={**given.spec, "allow_signature_change": True})
    assert validate.run(allowed, Kept())["faults"] == []
