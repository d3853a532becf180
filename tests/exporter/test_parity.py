from __future__ import annotations

import json
import math

import numpy as np
import pytest

from exporter.format import Tolerance
from exporter.parity import compare, task_metric

CLOSE = Tolerance(difference=1e-5)


def compare_one(expected, actual, tolerance=CLOSE, targets=None):
    expected, actual = np.asarray(expected), np.asarray(actual)
    known = None if targets is None else {"y": np.asarray(targets)}
    return compare({"y": expected}, {1: {"y": actual[:1]}, 32: {"y": actual}}, tolerance, known)


@pytest.mark.parametrize(
    ("expected", "actual", "agrees"),
    [
        ([[1.0], [2.0]], [[1.0], [2.0]], True),
        # |a - b| = 9e-6 is allowed where |b| <= 1, and 1e-5 times |b| above.
        ([[0.1], [0.2]], [[0.1], [0.200009]], True),
        ([[0.1], [0.2]], [[0.1], [0.200011]], False),
        ([[1.0], [500.0]], [[1.0], [500.004]], True),
        ([[1.0], [500.0]], [[1.004], [500.0]], False),
        ([[1.0], [math.nan]], [[1.0], [2.0]], False),
        ([[1.0], [2.0]], [[1.0], [math.nan]], False),
        ([[1.0], [math.nan]], [[1.0], [math.nan]], False),
        ([[1.0], [-math.inf]], [[1.0], [-math.inf]], True),
        ([[1.0], [-math.inf]], [[1.0], [math.inf]], False),
        ([[1.0], [2.0]], [[1.0], [math.inf]], False),
        ([["cat"], ["dog"]], [["cat"], ["dog"]], True),
        ([["cat"], ["dog"]], [["cat"], ["cow"]], False),
        ([[1], [2]], [[1], [2]], True),
        ([[1], [2]], [[1], [3]], False),
        ([[True], [False]], [[True], [True]], False),
    ],
)
def test_answers_agree_when_each_number_is_within_its_tolerance(expected, actual, agrees):
    assert compare_one(expected, actual).agrees is agrees


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        ([[1.0, 2.0]], "shape (1, 2) is not the model's (2, 1)"),
        ([1.0, 2.0], "shape (1,) is not the model's (2, 1)"),
        ([["1"], ["2"]], "dtype <U1 is not the model's float64"),
        ([[1.0], [math.nan]], "the artifact answers NaN in row 1"),
    ],
)
def test_what_cannot_be_compared_is_said(actual, problem):
    parity = compare_one([[1.0], [2.0]], actual)
    assert not parity.agrees
    assert problem in parity.explain()


def test_a_missing_output_is_a_difference():
    parity = compare({"y": np.ones((2, 1)), "z": np.ones((2, 1))}, {2: {"y": np.ones((2, 1))}}, CLOSE)
    assert parity.explain() == "output 'z': the artifact has no such output (batch size 2)"


def test_a_difference_at_one_batch_size_alone_is_a_difference():
    expected = np.zeros((40, 2))
    parity = compare({"y": expected}, {1: {"y": expected[:32] + 0.5}, 32: {"y": expected}}, CLOSE)
    assert not parity.agrees
    assert parity.batch_sizes == (1, 32)


def test_the_worst_row_is_the_one_furthest_beyond_its_own_tolerance():
    parity = compare_one([[0.0], [1000.0], [0.0]], [[0.0], [1000.009], [0.005]])
    figures = parity.outputs["y"]
    assert figures.worst_row == 2
    assert figures.max_abs_diff == pytest.approx(0.009)
    assert figures.worst_allowed == 1e-5


def test_the_tolerance_may_be_a_part_of_the_outputs_range():
    tenth = Tolerance(difference=0.1, scale="range")
    assert compare_one([[0.0], [50.0]], [[4.9], [50.0]], tenth).agrees
    assert not compare_one([[0.0], [50.0]], [[5.1], [50.0]], tenth).agrees


def test_the_share_of_equal_classes_is_told():
    parity = compare_one(
        [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]
    )
    assert parity.outputs["y"].argmax_agreement == 0.75
    assert "75.0% of the rows agree on the class" in parity.explain()


SOFTMAX = [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]


@pytest.mark.parametrize(
    ("answers", "targets", "accuracy"),
    [
        (SOFTMAX, [0, 1, 1, 1], 0.75),
        (SOFTMAX, [[0], [1], [1], [1]], 0.75),
        (SOFTMAX, [0.0, 1.0, 1.0, 0.0], 1.0),
        (SOFTMAX, [[1, 0], [0, 1], [1, 0], [1, 0]], 0.75),
        ([[0.9], [0.4], [0.6]], [1, 0, 0], 2 / 3),
        ([0.9, 0.4, 0.6], [1.0, 0.0, 1.0], 1.0),
        ([SOFTMAX], [[0, 1, 1, 1]], 0.75),
        # No classes: a regression, logits of a binary task, and a class that doesn't exist.
        (SOFTMAX, [[0.5, 0.5], [0, 1], [1, 0], [1, 0]], None),
        ([[3.5], [-2.0]], [1, 0], None),
        (SOFTMAX, [0, 1, 2, 1], None),
        ([[0.5], [0.7]], [0.25, 0.7], None),
    ],
)
def test_accuracy_is_the_task_metric_where_shapes_tell_of_classes(answers, targets, accuracy):
    metric = task_metric(np.asarray(answers), np.asarray(answers), np.asarray(targets))
    assert (metric and metric.model) == (accuracy if accuracy is None else pytest.approx(accuracy))


QUANTIZED = Tolerance(difference=0.1, scale="range", metric_delta=0.02)


def test_a_quantized_model_may_differ_while_the_accuracy_stays():
    expected = np.tile([[0.9, 0.1]], (100, 1))
    assert compare_one(expected, [[0.6, 0.4]] * 100, QUANTIZED, targets=[0] * 100).agrees
    assert not compare_one(expected, [[0.6, 0.4]] * 100, QUANTIZED).agrees


def test_a_quantized_model_that_loses_accuracy_is_refused():
    expected = np.tile([[0.55, 0.45]], (100, 1))
    actual = expected.copy()
    actual[:3] = [0.45, 0.55]
    parity = compare_one(expected, actual, QUANTIZED, targets=[0] * 100)
    assert not parity.agrees
    assert "accuracy 0.97 against 1 (allowed change 0.02)" in parity.explain()


def test_of_few_rows_one_at_the_edge_may_tip():
    expected = np.tile([[0.52, 0.48]], (20, 1))
    actual = expected.copy()
    actual[0] = [0.48, 0.52]
    assert compare_one(expected, actual, QUANTIZED, targets=[0] * 20).agrees
    actual[0] = [0.1, 0.9]
    assert not compare_one(expected, actual, QUANTIZED, targets=[0] * 20).agrees


def test_a_proof_is_json_even_where_its_figures_are_not_finite():
    document = compare_one([[1.0], [2.0]], [[1.0], [math.nan]]).to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["outputs"]["y"]["max_abs_diff"] is None
