"""Confusion matrices and residuals, against what can be counted by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from trainer.compiling import CompileOptions
from trainer.judging import judge

ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
TRUE = np.array([0, 1, 1, 2])
# One of class 1 was taken for class 0.
MATRIX = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def judged(loss: Any, target: np.ndarray, answer: np.ndarray) -> dict[str, Any]:
    how = CompileOptions.model_validate({"loss": loss})
    return judge(how, {"out": target}, {"out": answer})["out"]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_whole_number_classes(shape: tuple[int, ...]) -> None:
    found = judged("sparse_categorical_crossentropy", TRUE.reshape(shape), ANSWERS)
    assert (found["confusion_matrix"], found["accuracy"]) == (MATRIX, 0.75)
    assert (found["precision"], found["recall"]) == ([0.5, 1.0, 1.0], [1.0, 0.5, 1.0])


@pytest.mark.parametrize(
    "loss", ["categorical_crossentropy", {"class_name": "CategoricalFocalCrossentropy", "config": {}}]
)
def test_one_hot_classes(loss: Any) -> None:
    assert judged(loss, np.eye(3)[TRUE], ANSWERS)["confusion_matrix"] == MATRIX


@pytest.mark.parametrize(
    ("loss", "answers"),
    [
        ("binary_crossentropy", [0.4, 0.6, 0.2, 0.9]),
        ("bce", [0.4, 0.6, 0.2, 0.9]),
        ({"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}, [-1.0, 0.1, -0.2, 3.0]),
        ("hinge", [-1.0, 0.1, -0.2, 3.0]),
    ],
)
def test_two_classes_are_told_apart_where_the_loss_says(loss: Any, answers: list[float]) -> None:
    target = np.array([0, 1, 1, 1]) if loss != "hinge" else np.array([-1, 1, 1, 1])
    found = judged(loss, target, np.array(answers).reshape(4, 1))
    assert found["confusion_matrix"] == [[1, 0], [1, 2]]


@pytest.mark.parametrize(
    ("target", "answer", "matrix"),
    [
        (TRUE, ANSWERS, MATRIX),
        (np.eye(3)[TRUE], ANSWERS, MATRIX),
        (np.array([0, 1, 1, 1]), np.array([[0.4], [0.6], [0.2], [0.9]]), [[1, 0], [1, 2]]),
    ],
    ids=["numbers", "one-hot", "two classes"],
)
def test_what_crossentropy_means_is_told_by_the_shapes(
    target: np.ndarray, answer: np.ndarray, matrix: list[list[int]]
) -> None:
    assert judged("crossentropy", target, answer)["confusion_matrix"] == matrix


def test_answers_that_are_no_values_of_the_target_are_not_judged() -> None:
    how = CompileOptions.model_validate({"loss": "ctc"})
    assert judge(how, {"out": np.ones((4, 2))}, {"out": np.ones((4, 5, 3))}) == {}


def test_a_class_that_is_never_found_has_no_precision() -> None:
    found = judged("sparse_categorical_crossentropy", np.array([0, 0]), ANSWERS[[0, 2]])
    assert (found["precision"], found["recall"]) == ([1.0, None, None], [1.0, None, None])


def test_numbers_have_residuals() -> None:
    found = judged("mse", np.array([1.0, 2.0, 3.0]), np.array([[0.0], [2.0], [5.0]]))
    residuals = found["residuals"]
    assert residuals["mean"] == pytest.approx(-1 / 3)
    assert residuals["mae"] == pytest.approx(1.0)
    assert (residuals["quantiles"]["0"], residuals["quantiles"]["0.5"], residuals["quantiles"]["1"]) == (
        -2,
        0,
        1,
    )


def test_numbers_beyond_all_bounds_are_still_json() -> None:
    found = judged("mse", np.zeros(3), np.array([[0.0], [np.inf], [-np.inf]]))
    assert json.loads(json.dumps(found, allow_nan=False))["residuals"]["mean"] is None


def test_each_output_has_its_own_kind() -> None:
    how = CompileOptions.model_validate({"loss": {"size": "mae", "kind": "sparse_categorical_crossentropy"}})
    found = judge(how, {"kind": TRUE, "size": TRUE * 1.0}, {"kind": ANSWERS, "size": TRUE * 2.0})
    assert {name: each["kind"] for name, each in found.items()} == {"kind": "classes", "size": "numbers"}


def test_a_matrix_of_very_many_classes_is_left_out() -> None:
    found = judged("sparse_categorical_crossentropy", TRUE, np.tile(np.arange(1001.0), (4, 1)))
    assert found["confusion_matrix"] is None
    assert found["accuracy"] == 0.0
