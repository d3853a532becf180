import json

import pytest

from trainer.catalog import catalog, fits
from trainer.objects import completed, object_faults


def test_the_catalogue_is_that_of_the_installed_keras():
    from trainer.catalog import main

    assert main(["--check"]) == 0


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("layers", "Lambda"),
        ("layers", "TFSMLayer"),
        ("layers", "Layer"),
        ("losses", "Loss"),
        ("metrics", "Metric"),
    ],
)
def test_code_files_and_abstract_bases_are_left_out(section, name):
    assert name not in catalog().sections[section]


@pytest.mark.parametrize(
    ("value", "kind", "verdict"),
    [(3, "integer", True), (3.0, "integer", True), (3.5, "integer", False), (True, "integer", False),
     (3, "number", True), ("3", "number", False), (1, "boolean", True), ("yes", "boolean", False),
     ([], "any", True)],
)  # fmt: skip
def test_types_are_json_types(value, kind, verdict):
    assert fits(value, kind) is verdict


def test_what_keras_writes_of_its_own_layers_passes_and_comes_back():
    """Every layer that a sample can make: its serialized form has no fault, and Keras reads it completed."""
    import keras

    from trainer.cataloguing import _SAMPLES

    refused = {}
    tried = 0
    for name, entry in catalog().sections["layers"].items():
        required = [argument.name for argument in entry.arguments.values() if argument.required]
        cls = getattr(keras.layers, name)
        if not set(required) <= _SAMPLES.keys() or name in {"RNN", "StackedRNNCells"}:
            continue
        try:
            made = cls(**{argument: _SAMPLES[argument] for argument in required})
        except (TypeError, ValueError, NotImplementedError, ImportError):
            continue  # the sample values fit most classes, not all
        document = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
        document["registered_name"] = None
        tried += 1
        found = list(object_faults(document, "layers"))
        if found:
            refused[name] = found
        else:
            keras.saving.deserialize_keras_object(completed(document), safe_mode=True)
    assert refused == {}
    assert tried > 100
