"""Every architecture in every format, proven in its runtime; `make formats` writes docs/formats.md of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import Artifact
from exporter.converter import Converter
from exporter.entries import read_entries
from exporter.errors import ExporterError
from exporter.export import export
from tests.formats.table import ARTIFACTS, ENTRIES, FLOAT16, FLOAT32, REFUSED, SLICE
from tests.formats.zoo import MODELS

# Keras 3.15 saves its variables by np.array(tf.Variable), and TensorFlow 2.20's lacks NumPy 2's copy keyword.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
Record = Callable[[str, object], None]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", MODELS)
def test_an_architecture_becomes_every_format(
    model: str, tmp_path: Path, record_property: Record, converter: Converter
) -> None:
    made, refused = exported(model, ARTIFACTS, tmp_path, converter)
    for name in ARTIFACTS:
        record_property(name, json.dumps(cell(made.get(name), refused.get(name))))
    expected = {artifact: told for (of, artifact), told in REFUSED.items() if of == model}
    assert refused.keys() == expected.keys(), refused
    for name, told in expected.items():
        assert told in str(refused[name])
    for artifact in made.values():
        check(artifact)


@pytest.mark.parametrize("model", SLICE)
def test_the_slice_of_every_run(model: str, tmp_path: Path, converter: Converter) -> None:
    made, refused = exported(model, SLICE[model], tmp_path, converter)
    assert not refused
    assert {"saved_model", *SLICE[model]} <= made.keys()
    for artifact in made.values():
        check(artifact)


def exported(
    model: str, names: Sequence[str], folder: Path, converter: Converter
) -> tuple[dict[str, Artifact], dict[str, ExporterError]]:
    """Train the model, export it to these formats, and return what was made and what was refused."""
    import keras

    keras.utils.set_random_seed(7)
    specimen = MODELS[model](folder)
    entries = [
        {**entry, "optional": entry["format"] != "saved_model"}
        for name, entry in zip(ARTIFACTS, ENTRIES, strict=True)
        if name in names
    ]
    refused: dict[str, ExporterError] = {}
    made = export(
        specimen.model,
        read_entries(entries),
        held_out=specimen.held_out,
        training=specimen.training,
        preparation=specimen.preparation,
        out=folder / "version",
        on_skip=refused.__setitem__,
        converter=converter,
    )
    return {artifact.name: artifact for artifact in made if artifact.parity is not None}, refused


def check(artifact: Artifact) -> None:
    """Float32 answers to the last digits, float16 to its own, and 8 bits lose at most 2 % of accuracy."""
    assert artifact.parity is not None
    assert artifact.parity.agrees
    outputs = artifact.parity.outputs.values()
    metrics = [output.metric for output in outputs if output.metric is not None]
    assert metrics
    assert all(metric.model >= 0.7 for metric in metrics), "a model that has learnt nothing proves nothing"
    if artifact.name in FLOAT32:
        assert artifact.parity.max_abs_diff <= 1e-5
    elif artifact.name in FLOAT16:
        assert artifact.parity.max_abs_diff <= 1e-2
    else:
        assert all(metric.delta <= 0.02 for metric in metrics), metrics


def cell(artifact: Artifact | None, error: ExporterError | None) -> dict[str, Any]:
    """What the page says of one model in one format."""
    if artifact is None:
        return {"refused": str(error)}
    assert artifact.parity is not None
    metrics = [each.metric for each in artifact.parity.outputs.values() if each.metric is not None]
    return {
        "difference": artifact.parity.max_abs_diff,
        "lost": max((metric.model - metric.artifact for metric in metrics), default=None),
        "bytes": artifact.size_bytes,
        "recipe": artifact.recipe,
    }
