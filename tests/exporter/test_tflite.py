from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from exporter.endpoint import Endpoint
from exporter.entries import read_entries
from exporter.export import export
from exporter.flatbuffer import mended
from exporter.formats import saved_model, tflite
from exporter.parity import compare
from exporter.samples import Samples

# TensorFlow's own calibrator starts the interpreter that TensorFlow deprecates.
CALIBRATION = "ignore:[\\s\\S]*tf.lite.Interpreter is deprecated:UserWarning"
pytestmark = pytest.mark.filterwarnings(CALIBRATION)

QUANTIZATIONS = [None, "float16", "dynamic", "int8", "int8_io"]


def converted(trained, folder, quantizations=QUANTIZATIONS):
    """One artifact a quantization, made and loaded in this process: its recipe, its file, its proof."""
    endpoint = Endpoint.of(trained.model, trained.train)
    rows = endpoint.bind(trained.held_out.features)
    expected, targets = endpoint.predict(rows, 32), endpoint.bind_targets(trained.held_out.targets)
    artifacts = {}
    for quantization in quantizations:
        options = tflite.Options(quantization=quantization)
        stand_in = tflite.stand_in(endpoint, options)
        source = folder / (stand_in.name if stand_in else "own")
        if not source.exists():
            saved_model.write(stand_in.endpoint if stand_in else endpoint, source, saved_model.Options())
        file = folder / f"{quantization}.tflite"
        recipe = tflite.convert(source, file, options, endpoint.bind(trained.train))
        loaded = tflite.load(file)
        size = loaded.batch_size or 32
        batches = [
            loaded.predict({name: array[at : at + size] for name, array in rows.items()})
            for at in range(0, trained.held_out.rows, size)
        ]
        answers = {name: np.concatenate([batch[name] for batch in batches]) for name in expected}
        parity = compare(expected, {size: answers}, tflite.tolerance(options), targets)
        artifacts[quantization] = SimpleNamespace(
            recipe=recipe, file=file, loaded=loaded, answers=answers, parity=parity, stand_in=stand_in
        )
    return artifacts


def tensors(signature):
    """The signature's tensors by name, of an object or of a document."""
    document = signature if isinstance(signature, dict) else signature.to_json()
    return {
        tensor["name"]: (tensor["dtype"], tuple(tensor["shape"]))
        for side in ("inputs", "outputs")
        for tensor in document[side]
    }


FLOAT_BORDERS = {
    "age": ("float32", (None, 2)),
    "size": ("float32", (None, 3)),
    "species": ("float32", (None, 3)),
    "weight": ("float32", (None, 1)),
}


@pytest.fixture(scope="module")
def lite(two_by_two, tmp_path_factory):
    return converted(two_by_two, tmp_path_factory.mktemp("lite"))


def test_an_artifact_is_named_by_its_quantization():
    entries = read_entries([{"format": "tflite", "quantization": each} for each in QUANTIZATIONS])
    assert [entry.name for entry in entries] == [
        "tflite",
        "tflite-float16",
        "tflite-dynamic",
        "tflite-int8",
        "tflite-int8_io",
    ]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_quantization_answers_like_the_model_as_far_as_it_is_held_to(lite, quantization):
    assert lite[quantization].parity.explain() == ""


def test_fewer_bits_are_further_from_the_model(lite):
    far = {name: artifact.parity.max_abs_diff for name, artifact in lite.items()}
    # 2.4e-7, 1e-3, 2.4e-7 and 0.13 were seen; weights as few as these keep their 32 bits in `dynamic`.
    assert far[None] < far["float16"] < far["int8"]
    assert far["dynamic"] < far["int8"]


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        (None, "TFLiteConverter.from_saved_model"),
        ("float16", ", float16 weights"),
        ("dynamic", ", int8 weights, float32 activations"),
        ("int8", ", int8 calibrated on 100 rows, float32 in and out"),
        ("int8_io", ", int8 calibrated on 100 rows, int8 in and out"),
    ],
)
def test_the_recipe_says_what_was_quantized(lite, quantization, told):
    assert lite[quantization].recipe.endswith(told)


@pytest.mark.parametrize("quantization", [None, "float16", "dynamic", "int8"])
def test_the_borders_stay_as_the_model_has_them(lite, quantization):
    assert tensors(lite[quantization].loaded.signature) == FLOAT_BORDERS


def test_int8_io_has_other_dtypes_at_its_borders_and_says_so(lite):
    borders = {name: ("int8", shape) for name, (_, shape) in FLOAT_BORDERS.items()}
    assert tensors(lite["int8_io"].loaded.signature) == borders


def test_int8_io_is_asked_and_answers_in_the_models_own_units(lite):
    species = lite["int8_io"].answers["species"]
    assert species.dtype == np.float32
    # 8 bits of a softmax are steps of 1/256 from 0.
    assert np.array_equal(species * 256, np.round(species * 256))
    assert 0 <= species.min() < species.max() < 1


def test_values_beyond_those_calibrated_end_at_the_last_step(lite):
    (details,) = [{"quantization": (0.5, 3), "dtype": np.int8}]
    answered = tflite._quantized(np.array([-1e9, -0.5, 0, 0.26, 1e9], np.float32), details)
    assert answered.tolist() == [-128, 2, 3, 4, 127]


def test_a_file_in_which_nothing_is_to_be_mended_stays_as_it_is(lite):
    for artifact in lite.values():
        content = artifact.file.read_bytes()
        assert mended(content) is content


def test_the_signature_lists_the_names_in_the_file_itself(lite):
    from ai_edge_litert.interpreter import Interpreter

    for artifact in lite.values():
        assert Interpreter(model_path=str(artifact.file)).get_signature_list() == {
            "serving_default": {"inputs": ["age", "size"], "outputs": ["species", "weight"]}
        }


@pytest.mark.full
def test_a_version_holds_all_quantizations_proven(two_by_two, tmp_path):
    artifacts = export(
        two_by_two.model,
        read_entries([{"format": "tflite", "quantization": each} for each in QUANTIZATIONS]),
        held_out=two_by_two.held_out,
        training=Samples(two_by_two.train),
        out=tmp_path,
    )
    by_name = {each.name: each.to_json() for each in artifacts}
    assert all(by_name[name]["parity"]["agrees"] for name in by_name if name.startswith("tflite"))
    assert tensors(by_name["tflite-int8_io"]["signature"])["size"] == ("int8", (None, 3))
    assert by_name["tflite-int8_io"]["path"] == "assets.extra/tflite-int8_io.tflite"


def test_weights_of_some_size_shrink_by_half_and_to_a_quarter(tmp_path):
    import keras

    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((64,), name="x"), keras.layers.Dense(256, "relu"), keras.layers.Dense(64)]
    )
    features = {"x": np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32)}
    saved_model.write(Endpoint.of(model, features), tmp_path / "1", saved_model.Options())
    sizes = {}
    for quantization in (None, "float16", "dynamic"):
        file = tmp_path / f"{quantization}.tflite"
        tflite.convert(tmp_path / "1", file, tflite.Options(quantization=quantization), features)
        sizes[quantization] = file.stat().st_size
    # 133, 69 and 36 kB were seen.
    assert 0.45 < sizes["float16"] / sizes[None] < 0.6
    assert 0.25 < sizes["dynamic"] / sizes[None] < 0.35


def test_the_refused_operations_are_picked_out_of_the_converters_message():
    # As TensorFlow 2.20 writes it for a loop.
    message = (
        '<unknown>:0: error: loc(callsite(fused["TensorListReserve:", "lstm/TensorArrayV2_1@__inf_1"])): '
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass\n"
        '<unknown>:0: note: loc(fused["StatefulPartitionedCall:"]): called from\n'
        '<unknown>:0: error: loc(fused["X:"]): '
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass\n"
    )
    told = tflite.refused_operations(message)
    assert told.startswith(
        "'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass. "
        "TensorFlow Lite takes no loop over a free batch: "
    )
    assert tflite.refused_operations("out of memory") == ""
