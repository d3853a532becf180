"""Rows as people have them, asked of a served model with preprocessing: over gRPC, REST and the API."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fitserve import Client, InvalidInputError, Predictor
from tests.acceptance.stack import RunningStack

CITIES = ["Rome", "Łódź", "Oslo"]
TRAINED: list[dict[str, Any]] = [
    {"age": None if n % 7 == 0 else 20.0 + n, "city": CITIES[n % 3], "rooms": n % 4, "y": n % 2}
    for n in range(40)
]
ROWS: list[dict[str, Any]] = [
    {"age": 31, "city": "Rome", "rooms": 2},
    {"age": None, "city": "Łódź", "rooms": 1},
    {"city": None, "rooms": 0},
    {"age": 25.5, "city": "Paris", "rooms": 3},
]
SPEC: dict[str, Any] = {
    "name": "flats",
    "model": {
        "kind": "sequential",
        "layers": [{"class_name": "Dense", "config": {"units": 1, "activation": "sigmoid"}}],
    },
    "data": {
        "kind": "inline",
        "rows": TRAINED,
        "features": ["age", "city", "rooms"],
        "label": "y",
        "columns": {
            "age": {"kind": "number", "missing": "mean"},
            "city": {"kind": "category"},
            "rooms": {"kind": "number", "standardize": False},
        },
    },
    "compile": {"loss": "binary_crossentropy"},
    "seed": 1,
}


@pytest.fixture(scope="module")
def served(client: Client) -> str:
    job = client.wait(client.submit(SPEC).id, timeout_s=240)
    assert job.status == "succeeded", job.error
    client.version("flats", 1, wait_s=30)
    return "flats"


def test_rows_and_columns_are_answered_alike_over_grpc_and_http(
    client: Client, stack: RunningStack, served: str
) -> None:
    columns = {name: [row.get(name) for row in ROWS] for name in ("age", "city", "rooms")}
    with Predictor(stack.addresses.serving_grpc) as predictor:
        expected = predictor.predict(served, ROWS).output
        np.testing.assert_array_equal(predictor.predict(served, columns).output, expected)
    assert expected.shape == (4, 1)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(client.predict(served, ROWS), expected, atol=1e-6)
    np.testing.assert_allclose(client.predict(served, columns, version=1), expected, atol=1e-6)


def test_a_misspelt_column_is_told_before_anything_is_sent(stack: RunningStack, served: str) -> None:
    with (
        Predictor(stack.addresses.serving_grpc) as predictor,
        pytest.raises(InvalidInputError, match="did you mean 'city'"),
    ):
        predictor.predict(served, [{**ROWS[0], "citty": "Rome"}])
