"""What introductions to Keras teach, done here: each example through a real stack, then what its topic says.

`make topics` runs this module and writes docs/topics.md from what came out.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.writing import digits, write_csv
from fitserve import ProblemError
from tests.acceptance.stack import example
from tests.topics.classroom import Classroom, Outcome
from tests.topics.table import EXAMPLES

pytestmark = pytest.mark.full

Trained = Callable[[str], Outcome]
# Exports are proven within 1e-5 of each answer; servers run the same graph.
SAME = {"rtol": 1e-5, "atol": 1e-5}
THREE_WAYS = ("mlp_sequential", "mlp_functional", "mlp_subclassed")


def same_weights(*outcomes: Outcome) -> bool:
    """Whether all weights are equal, to the bit."""
    arrays = [[array for _, array in outcome.weights] for outcome in outcomes]
    return all(np.array_equal(each, first) for first, *others in zip(*arrays, strict=True) for each in others)


def stages(outcome: Outcome) -> list[str]:
    """The stages of the pipeline, as they were measured."""
    assert outcome.job.pipeline is not None
    return [stage["name"] for stage in outcome.job.pipeline["stages"]]


def stack_of(*units: int, bias: bool = True) -> dict[str, Any]:
    layers = [{"class_name": "Dense", "config": {"units": each, "use_bias": bias}} for each in units]
    return {"kind": "sequential", "layers": layers}


@pytest.mark.parametrize("which", EXAMPLES)
def test_example(
    which: str,
    trained: Trained,
    room_for: Callable[[str], Classroom],
    record_property: Callable[[str, object], None],
) -> None:
    """Uploaded, submitted, trained, published, and answered by gRPC and REST as the trained model did."""
    outcome, room = trained(which), room_for(which)
    for answers in (room.over_grpc(outcome), room.over_rest(outcome)):
        assert answers.keys() == outcome.outputs.keys()
        for name, expected in outcome.outputs.items():
            np.testing.assert_allclose(answers[name], expected, **SAME)
    assert outcome.inspected["parameters"] == outcome.parameters
    assert outcome.curves[-1]["loss"] != outcome.curves[0]["loss"]
    record_property("parameters", f"{outcome.parameters:,}")
    record_property("epochs", len(outcome.curves))
    record_property("loss", f"{outcome.curves[-1]['loss']:.4g}")
    held_out = {name: value for name, value in outcome.held_out.items() if not name.endswith("loss")}
    shown = held_out or {"loss": outcome.held_out["loss"]}
    record_property("held_out", ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))
    record_property("training_s", f"{outcome.training_s:.1f}")
    record_property("pipeline", json.dumps(outcome.job.pipeline))
    record_property("exports", json.dumps(outcome.exports))


def test_a_job_run_eagerly_computes_what_its_graph_does(classroom: Classroom, trained: Trained) -> None:
    eager = trained("eager")
    assert eager.resolved["compile"] == {
        **example("eager")["compile"],
        "run_eagerly": True,
        "steps_per_execution": 1,
    }
    spec = example("eager", name="graph")
    del spec["compile"]["run_eagerly"]
    graph = classroom.train(spec)
    for name, answer in eager.outputs.items():
        # Measured: equal to the bit. A graph may fuse kernels that round otherwise on another CPU.
        np.testing.assert_allclose(graph.outputs[name], answer, atol=1e-5)


def test_xla_is_a_field_of_the_spec(trained: Trained) -> None:
    assert trained("xla").resolved["compile"]["jit_compile"] is True


@pytest.mark.parametrize(
    ("features", "units", "with_bias", "without"),
    [
        (32, (64,), 2_112, 2_048),
        (4, (8, 3), 67, 56),
        (32, (64, 64, 10), 6_922, 6_784),
        (784, (128, 128, 10), 118_282, 118_016),
    ],
    ids=lambda value: value if isinstance(value, int) else "-".join(map(str, value)),
)
def test_dense_layers_have_the_parameters_of_the_formula(
    classroom: Classroom, features: int, units: tuple[int, ...], with_bias: int, without: int
) -> None:
    for bias, expected in ((True, with_bias), (False, without)):
        found = classroom.inspect({"model": stack_of(*units, bias=bias), "inputs": {"x": [features]}})
        sizes = [(below + bias) * above for below, above in zip((features, *units[:-1]), units, strict=True)]
        assert [layer["parameters"] for layer in found["layers"]] == sizes
        assert (found["parameters"], found["weight_bytes"]["float32"]) == (expected, 4 * expected)
        assert found["largest_layer"] == found["layers"][int(np.argmax(sizes))]["name"]


def test_a_dense_layer_without_a_shape_is_not_built_yet(classroom: Classroom) -> None:
    found = classroom.inspect({"model": stack_of(64)})
    assert (found["built"], found["layers"][0]["parameters"]) == (False, None)


def test_three_ways_to_a_model_end_with_the_same_weights_and_curves(trained: Trained) -> None:
    outcomes = [trained(which) for which in THREE_WAYS]
    assert same_weights(*outcomes)
    assert outcomes[0].parameters == 21 * 64 + 65 * 32 + 33 * 5
    assert outcomes[0].curves == outcomes[1].curves == outcomes[2].curves
    answers = [next(iter(outcome.outputs.values())) for outcome in outcomes]
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_two_outputs_have_a_loss_each_and_weights_between_them(trained: Trained) -> None:
    outcome = trained("two_in_two_out")
    assert set(outcome.outputs) == {"department", "priority"}
    last = outcome.curves[-1]
    whole = last["department_loss"] + 5 * last["priority_loss"]
    # Each is a mean over the epoch's batches of its own.
    assert last["loss"] == pytest.approx(whole, rel=0.05)


def test_a_shared_layer_has_its_weights_once(trained: Trained) -> None:
    outcome = trained("shared_layers")
    assert outcome.parameters == 65 * 64 + 65 * 32 + 33 * 32 + 33


def test_what_is_random_in_training_is_not_in_serving(classroom: Classroom, trained: Trained) -> None:
    outcome = trained("regularization")
    first, second = classroom.over_grpc(outcome), classroom.over_grpc(outcome)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_image_classifier_beats_chance_on_new_images(trained: Trained) -> None:
    # A tenth is chance; 0.67 was measured.
    assert trained("image_classifier").held_out["accuracy"] >= 0.4


def of_images(**pipeline: Any) -> dict[str, Any]:
    """Three epochs of the images in files, under this pipeline, in one order wherever they are kept."""
    spec = example("image_folder", name="-".join(["images", *map(str, pipeline.values())]).lower())
    spec["data"]["pipeline"] |= {"shuffle": False, **pipeline}
    spec["fit"] = {"epochs": 3}
    return spec


@pytest.fixture(scope="module")
def in_memory(classroom: Classroom) -> Outcome:
    return classroom.train(of_images(cache="memory"))


def test_augmentation_stays_behind_the_cache(classroom: Classroom, in_memory: Outcome) -> None:
    """Images that are kept are altered anew in each epoch, as those are that are decoded anew."""
    anew = classroom.train(of_images(cache=False))
    assert stages(anew) == ["order", "read", "prepare", "augment"]
    assert stages(in_memory) == ["order", "read", "augment"]
    assert same_weights(in_memory, anew)
    spec = of_images(cache="memory")
    del spec["data"]["pipeline"]["augment"]
    assert not same_weights(in_memory, classroom.train(spec))


def test_a_layer_that_is_not_random_is_refused_behind_the_cache(classroom: Classroom) -> None:
    spec = of_images(augment=[{"class_name": "Rescaling", "config": {"scale": 0.1}}])
    spec["name"] = "refused"
    with pytest.raises(ProblemError) as refused:
        classroom.client.submit(spec)
    (error,) = refused.value.errors
    assert error.pointer == "/data/pipeline/augment/0/class_name"
    assert "put it into the model" in error.detail


def test_rows_in_memory_and_on_disk_end_with_the_same_weights(
    classroom: Classroom, in_memory: Outcome
) -> None:
    on_disk = classroom.train(of_images(cache="disk"))
    assert stages(on_disk) == ["read", "augment"]
    assert same_weights(in_memory, on_disk)


def test_records_and_a_table_of_the_same_rows_end_with_the_same_weights(
    classroom: Classroom, trained: Trained
) -> None:
    images, labels = digits()
    names = [f"pixel_{number}" for number in range(64)]
    path = classroom.folder / "digit_table.csv"
    rows = zip(images.reshape(-1, 64).tolist(), labels.tolist(), strict=True)
    write_csv(path, [*names, "digit"], ([*pixels, label] for pixels, label in rows))
    classroom.upload_file(path, "digit-table")
    spec = example("tfrecord", name="digit-table")
    spec["data"] |= {"kind": "csv", "uri": "dataset://digit-table", "features": names}
    assert same_weights(trained("tfrecord"), classroom.train(spec))


def test_raw_rows_are_asked_with_their_gaps_and_in_any_script(trained: Trained) -> None:
    """What `test_example` asks servers for has what is hard: missing values, and texts beyond Latin."""
    rows = trained("support_requests").inputs
    assert np.isnan(rows["waited_h"]).any()
    assert all("" in rows[name] for name in ("opened", "plan", "message"))
    scripts = {unicodedata.name(letter).split()[0] for letter in "".join(rows["message"]) if letter.isalpha()}
    assert scripts >= {"LATIN", "CYRILLIC", "HIRAGANA", "KATAKANA", "CJK"}


def test_a_job_that_decodes_in_each_epoch_is_told_to_cache(trained: Trained) -> None:
    anew, once = trained("decode_each_epoch"), trained("decode_once")
    assert anew.job.pipeline is not None
    assert once.job.pipeline is not None
    assert anew.job.pipeline["verdict"] == "input-bound"
    assert 'set data.pipeline.cache to "auto"' in anew.job.pipeline["advice"][0]
    assert (stages(anew), stages(once)) == (["order", "read", "prepare"], ["order", "read"])
    assert once.job.pipeline["step_ms"] < anew.job.pipeline["step_ms"]
    assert once.job.pipeline["device_use"] > anew.job.pipeline["device_use"]
    assert same_weights(anew, once)


@pytest.mark.parametrize("which", ["decode_each_epoch", "decode_once"])
def test_a_step_lies_between_the_bounds_of_the_law(which: str, trained: Trained) -> None:
    found = trained(which).job.pipeline
    assert found is not None
    step, compute, given = found["step_ms"], found["compute_ms"], found["input_ms"]
    rounded = {"abs": 2e-4}  # figures have four decimals
    assert found["bounds_ms"]["sum"] == pytest.approx(given + compute, **rounded)
    assert found["bounds_ms"]["max"] == pytest.approx(max(given, compute), **rounded)
    assert found["device_use"] == pytest.approx(compute / step, **rounded)
    assert found["waiting_share"] == pytest.approx(1 - compute / step, **rounded)
    assert found["bounds_ms"]["max"] <= step + 2e-4
    # What hands a batch over is in no stage's time: half a millisecond was measured.
    assert step <= found["bounds_ms"]["sum"] + 5


def test_several_labels_may_be_true_at_once(trained: Trained) -> None:
    (probable,) = trained("multi_label").outputs.values()
    assert probable.shape[1:] == (3,)
    assert {0, 2} <= set((probable > 0.5).sum(axis=1).tolist())


def test_validation_data_are_a_set_of_their_own(classroom: Classroom, trained: Trained) -> None:
    outcome = trained("validation_data")
    with (classroom.folder / "wine_validation.csv").open(encoding="utf-8") as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    judgement = json.loads(classroom.artifact(outcome, "judgement"))
    assert (judgement["part"], judgement["rows"]) == ("validation", len(rows))
    asked = outcome.inputs["features"]
    np.testing.assert_array_equal(asked, np.array([row[:-1] for row in rows[: len(asked)]], np.float32))


def test_validation_split_takes_the_last_rows(classroom: Classroom, trained: Trained) -> None:
    outcome = trained("dense")
    judgement = json.loads(classroom.artifact(outcome, "judgement"))
    assert (judgement["part"], judgement["rows"]) == ("validation", 1797 - int(1797 * 0.8))
    with np.load(classroom.folder / "digits28.npz") as digits:
        np.testing.assert_array_equal(
            outcome.inputs["features"][0], digits["x"][int(1797 * 0.8)].astype(np.float32)
        )


def test_the_best_epoch_is_that_of_the_least_validation_loss(trained: Trained) -> None:
    outcome = trained("class_weight")
    best = min(outcome.curves, key=lambda row: row["val_loss"])
    for name, value in outcome.job.metrics["best"].items():
        assert best[name] == pytest.approx(value)


def test_class_weight_finds_more_of_a_rare_class(classroom: Classroom, trained: Trained) -> None:
    spec = example("class_weight", name="unweighted")
    del spec["fit"]["class_weight"]
    unweighted = classroom.train(spec)
    assert trained("class_weight").held_out["recall"] > unweighted.held_out["recall"]


def test_callbacks_stop_slow_down_keep_and_write(classroom: Classroom, trained: Trained) -> None:
    outcome = trained("callbacks")
    assert len(outcome.curves) < example("callbacks")["fit"]["epochs"]
    rates = [row["learning_rate"] for row in outcome.curves]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] < rates[0]
    assert {"csv_log", "tensorboard"} <= outcome.artifacts
    assert classroom.artifact(outcome, "csv_log").count(b"\n") == 1 + len(outcome.curves)
    with tarfile.open(fileobj=io.BytesIO(classroom.artifact(outcome, "tensorboard"))) as tar:
        folders = {name.split("/")[-2] for name in tar.getnames() if "tfevents" in name}
    assert folders == {"train", "validation"}


def test_a_lambda_callback_is_refused_with_what_to_do(classroom: Classroom) -> None:
    spec = example("callbacks", name="lambda")
    classroom.upload(spec["data"])
    spec["fit"]["callbacks"] = [{"class_name": "LambdaCallback", "config": {}}]
    with pytest.raises(ProblemError) as refused:
        classroom.client.submit(spec)
    (error,) = refused.value.errors
    assert error.pointer == "/fit/callbacks/0/class_name"
    assert "plugin" in error.detail


def test_a_lambda_callback_of_a_plugin_is_called_after_each_epoch(
    classroom: Classroom, trained: Trained
) -> None:
    outcome = trained("gradient_loop")
    folder = classroom.stack.home / "jobs" / outcome.job.id
    log = "".join(path.read_text() for path in folder.rglob("log") if path.is_file())
    told = re.findall(r"epoch (\d+): .*accuracy", log)
    assert told == [str(epoch) for epoch in range(1, 1 + len(outcome.curves))]


def test_a_gan_trains_two_networks(trained: Trained) -> None:
    outcome = trained("gan")
    assert "compile" not in example("gan")
    generator, critic = 9 * 32 + 33 * 2, 3 * 32 + 33
    assert outcome.parameters == generator + critic
    assert outcome.curves[0]["generator_loss"] != outcome.curves[-1]["generator_loss"]
    assert all(((answer >= 0) & (answer <= 1)).all() for answer in outcome.outputs.values())


def test_contrastive_vectors_have_unit_length(trained: Trained) -> None:
    (vectors,) = trained("contrastive").outputs.values()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_two_towers_take_users_and_items_by_name_as_integers(trained: Trained) -> None:
    inputs = trained("two_tower").inputs
    assert {name: str(rows.dtype) for name, rows in inputs.items()} == {"user": "int32", "item": "int32"}


def test_saved_files_are_loaded_by_keras_alone(
    classroom: Classroom, trained: Trained, tmp_path: Path
) -> None:
    import keras

    outcome = trained("saving")
    (rows,), (expected,) = outcome.inputs.values(), outcome.outputs.values()
    for name, file in {"keras": "model.keras", "h5": "model.h5"}.items():
        (tmp_path / file).write_bytes(classroom.artifact(outcome, name))
        model = keras.saving.load_model(tmp_path / file)
        np.testing.assert_allclose(model.predict(rows, verbose=0), expected, **SAME)
        assert model.compiled is (name == "keras")


def test_weights_alone_go_on_in_a_model_that_is_built_again(
    classroom: Classroom, trained: Trained, tmp_path: Path
) -> None:
    import keras

    outcome = trained("saving")
    (rows,), (expected,) = outcome.inputs.values(), outcome.outputs.values()
    architecture = json.loads(classroom.artifact(outcome, "architecture"))
    model = keras.models.model_from_json(json.dumps(architecture["config"]))
    (tmp_path / "model.weights.h5").write_bytes(classroom.artifact(outcome, "weights"))
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(model.predict(rows, verbose=0), expected, **SAME)


def test_quantized_files_are_smaller_and_lose_little(trained: Trained) -> None:
    found = {each["name"]: each for each in trained("saving").exports}
    whole = found["tflite"]["bytes"]
    for name, most in {"tflite-float16": 0.6, "tflite-int8": 0.4, "tflite-dynamic": 0.4}.items():
        assert found[name]["bytes"] < most * whole, name
    for name in ("tflite-dynamic", "tflite-int8", "tflite-int8_io", "tfjs-uint8"):
        (output,) = found[name]["outputs"].values()
        assert output["metric"]["model"] - output["metric"]["artifact"] <= 0.02, name
    assert all({"1", "64"} == each["latency_ms"].keys() for each in found.values())


def test_an_onnx_file_and_a_tflite_file_answer_by_the_signatures_names(
    classroom: Classroom, trained: Trained
) -> None:
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    outcome = trained("saving")
    ((output, expected),) = outcome.outputs.items()
    session = onnxruntime.InferenceSession(classroom.artifact(outcome, "onnx"))
    (answer,) = session.run([output], dict(outcome.inputs))
    np.testing.assert_allclose(answer, expected, **SAME)
    interpreter = Interpreter(model_content=classroom.artifact(outcome, "tflite"))
    run = interpreter.get_signature_runner("serving_default")
    one = {name: rows[:1] for name, rows in outcome.inputs.items()}
    np.testing.assert_allclose(run(**one)[output], expected[:1], **SAME)


@pytest.mark.parametrize("which", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_ends_as_float32(which: str, trained: Trained) -> None:
    outcome = trained(which)
    assert outcome.resolved["resources"] == {"precision": which}
    assert {str(answer.dtype) for answer in outcome.outputs.values()} == {"float32"}


def test_mirrored_asks_for_a_slot_of_several_devices(classroom: Classroom, trained: Trained) -> None:
    trained("mirrored")
    spec = example("mirrored", name="alone")
    classroom.upload(spec["data"])
    job = classroom.client.wait(classroom.client.submit(spec).id, timeout_s=120)
    assert job.error is not None
    assert (job.error.code, job.error.location) == ("spec_unbuildable", {"pointer": "/resources/strategy"})
