from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from service.cards.card import markdown, page
from service.cards.figures import curves


def facts(**changes: Any) -> dict[str, Any]:
    """What a job of a classifier tells of itself."""
    return {
        "name": "digits",
        "job_id": "job_1",
        "at": "2026-01-02T03:04:05+00:00",
        "seed": 7,
        "spec_digest": "sha256:aa",
        "data": {"kind": "npz", "uri": "dataset://digits"},
        "data_digest": "sha256:bb",
        "parts": {"train": 1437, "validation": 180, "test": 180},
        "anomalies": ["a class of a single row: 9"],
        "summary": "Model: digits",
        "epochs": 3,
        "best_epoch": 2,
        "optimizer": "Adam",
        "loss": "sparse_categorical_crossentropy",
        "metric_names": ["loss", "val_loss"],
        "metrics": {
            "last": {"loss": 0.3, "val_loss": 0.5},
            "best": {"loss": 0.35, "val_loss": 0.4},
            "test": {"loss": 0.45},
        },
        "history": {"loss": [0.9, 0.35, 0.3], "val_loss": [0.8, 0.4, 0.5]},
        "judgement": {
            "part": "test",
            "rows": 180,
            "outputs": {
                "output_0": {
                    "kind": "classes",
                    "classes": 2,
                    "accuracy": 0.95,
                    "confusion_matrix": [[90, 4], [5, 81]],
                    "precision": [0.9, 0.9],
                    "recall": [0.9, 0.9],
                }
            },
        },
        "proof_rows": 256,
        "formats": [
            {
                "name": "onnx",
                "recipe": "tf2onnx | opset 18",
                "difference": 1.2e-7,
                "agreement": "100.0 %",
                "one": "0.02 ms",
                "many": "0.3 ms",
                "runtime": "onnxruntime 1.31.1",
            }
        ],
        "signatures": {
            "serving_default": {
                "inputs": [{"name": "image", "dtype": "float32", "shape": [None, 8, 8, 1]}],
                "outputs": [{"name": "output_0", "dtype": "float32", "shape": None}],
            }
        },
        "libraries": {"keras": "3.15.1"},
        **changes,
    }


def test_the_card_says_data_metrics_errors_formats_and_environment() -> None:
    text = markdown(facts())
    assert text.startswith("---\nlibrary_name: keras\n")
    for line in (
        "# digits",
        "| train | 1,437 |",
        "- a class of a single row: 9",
        "| `val_loss` | 0.5 | 0.4 | - |",
        "On 180 rows of the test part.",
        "Accuracy 0.9500.",
        "| **0** | 90 | 4 |",
        "| `onnx` | tf2onnx \\| opset 18 | 1.2e-07 | 100.0 % | 0.02 ms | 0.3 ms | onnxruntime 1.31.1 |",
        "| input | `image` | float32 | (batch, 8, 8, 1) |",
        "| output | `output_0` | float32 | any |",
        "| keras | 3.15.1 |",
    ):
        assert line in text.splitlines(), (line, text)


def test_numbers_are_told_by_their_residuals_and_no_test_part_has_no_column() -> None:
    residuals = {"mean": 0.01, "std": None, "mae": 0.5, "rmse": 0.75, "quantiles": {}}
    outputs = {"price": {"kind": "numbers", "residuals": residuals}}
    metrics = {"last": {"loss": 0.3}, "best": {"loss": 0.3}, "test": None}
    text = markdown(facts(metrics=metrics, judgement={"part": "validation", "rows": 5, "outputs": outputs}))
    assert "| 0.01 | - | 0.5 | 0.75 |" in text.splitlines()
    assert "| metric | last epoch | best epoch |" in text.splitlines()


def test_the_page_has_the_same_tables_and_draws_what_markdown_can_not() -> None:
    html = page(facts())
    assert "<title>digits</title>" in html
    assert "<td>1,437</td>" in html
    drawn = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(drawn) == 2
    assert all(b"<svg" in base64.b64decode(each) for each in drawn)
    assert not re.search(r'(src|href)="(?!data:)', html)


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "](javascript:alert(1))", "![x](http://a/b.png)"]
)
def test_what_comes_out_of_data_is_text_on_the_page(evil: str) -> None:
    changes = {
        "anomalies": [evil],
        "signatures": {
            "serving_default": {"inputs": [{"name": evil, "dtype": "string", "shape": [None]}], "outputs": []}
        },
    }
    html = page(facts(**changes))
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_the_same_figures_are_drawn_as_the_same_bytes() -> None:
    history = {"loss": [1.0, 0.5], "accuracy": [0.1, 0.9]}
    assert curves(history) == curves(history)


def test_rows_of_the_spec_are_not_told_one_by_one() -> None:
    told = markdown(facts(data={"kind": "inline", "rows": [{"a": 12345}]}))
    assert "`inline` in the spec itself, content `sha256:bb`." in told
    assert "12345" not in told
